// The button on the cart page: what two tabs do when both are clicked at the same moment, ten times each.

const form = document.querySelector("#tabs")

form?.addEventListener("submit", async (event) => {
  event.preventDefault()
  const [button, told] = [form.querySelector("button"), form.querySelector("output")]
  const dots = [...form.querySelectorAll(".dots i")]
  button.disabled = true
  dots.forEach((dot) => (dot.className = ""))
  told.textContent = "Sending…"

  const before = count(await load())
  const answers = await Promise.all(dots.map(send))
  const page = await load()
  const grown = count(page) - before
  for (const shown of ["#cart", "#count"]) {
    document.querySelector(shown).replaceWith(page.querySelector(shown))
  }
  const kept = answers.filter(Boolean).length
  told.textContent = `${kept} accepted. The cart grew by ${grown}.`
  button.disabled = false
})

async function send(dot) {
  const body = new URLSearchParams(new FormData(form))
  body.set("tea", dot.closest(".tab").dataset.tea)
  // The answer is a redirect to a page that nobody needs twenty times.
  const answer = await fetch("/cart", { method: "POST", body, redirect: "manual" }).catch(() => null)
  const kept = answer?.type === "opaqueredirect"
  dot.className = kept ? "kept" : "refused"
  return kept
}

async function load() {
  return new DOMParser().parseFromString(await (await fetch("/cart")).text(), "text/html")
}

function count(page) {
  return Number(page.querySelector("#count").textContent)
}
