"""The application of `racing.py`, which has used its sessions before gunicorn forks its workers (`--preload`)."""

from racing import app

with app.test_client() as client:
    client.get("/sign-in/nobody-else")
    print("used before the fork:", client.get("/who").text == "nobody-else", flush=True)
