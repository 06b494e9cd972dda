# The service as one static binary in an otherwise empty image: no shell, no
# package manager, no libraries to patch.
#
#   docker build -t sessiond .
#   docker run --rm -p 50051:50051 sessiond                      (memory store)
#   docker run --rm -p 50051:50051 -e SESSIOND_STORE=redis://… sessiond
#
# No HEALTHCHECK: there is nothing in the image to run one with, and Kubernetes
# asks grpc.health.v1 by itself (deploy/kubernetes/sessiond.yaml).

ARG RUST=1.95

# ---- build -------------------------------------------------------------------
# The slim image brings what the build needs: rustc, cargo, and a C compiler with
# the static libc (for mimalloc and for linking). No protoc: the generated code is
# committed.
FROM rust:${RUST}-slim-bookworm AS build
WORKDIR /src
COPY . .

# +crt-static makes glibc part of the binary; since glibc 2.34 its DNS resolver is
# in there too, so host names in SESSIOND_STORE resolve without a library beside it.
# --target keeps that flag away from build scripts and procedural macros, which
# cannot be static; naming the host itself lets the file serve amd64 and arm64.
#
# The caches keep downloads and compiled dependencies between builds. Our own crates
# are cleaned first, since Cargo judges freshness by file times, and those say little
# about a copied tree: dependencies come from the cache, our code never does.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host="$(rustc --print host-tuple)" \
 && cargo clean --quiet --release --locked --target "$host" -p sessiond -p sessiond-proto \
 && RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --target "$host" -p sessiond \
 && install -D --strip "target/$host/release/sessiond" /out/sessiond

# ---- run ---------------------------------------------------------------------
FROM scratch
LABEL org.opencontainers.image.title="sessiond" \
      org.opencontainers.image.description="A session service: Open, Save, Destroy over gRPC, kept in Redis" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build /out/sessiond /sessiond

# All interfaces, by IPv6 and by IPv4 (on a machine without IPv6, by IPv4 alone): the
# binary's own default is loopback, which nothing outside the container reaches.
# Every flag has such a variable, so settings need no arguments.
ENV SESSIOND_LISTEN=[::]:50051
EXPOSE 50051

# By number, since there is no /etc/passwd to look a name up in; Kubernetes'
# runAsNonRoot asks for a number as well.
USER 65532:65532
ENTRYPOINT ["/sessiond"]
