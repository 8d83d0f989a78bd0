# The image contains one static binary and its SBOM, nothing else. There are two ways to build it.
#
#   docker build --tag oauth-operator .     compiles in the first stage; with buildx also for another
#                                           CPU (--platform linux/amd64,linux/arm64)
#   hack/image                              compiles with this machine's cargo and pulls no base image:
#                                           --build-context builder=<directory with both> replaces
#                                           the first stage, which is then not run

# Pinned by digest, so that a commit is always built with the same image; the tag is for readers. To update it:
# docker buildx imagetools inspect rust:1.95.0-slim-trixie
FROM --platform=$BUILDPLATFORM rust:1.95.0-slim-trixie@sha256:e14e87345b4d5964ddcc3491d27ee046a0f23820f340c3c1e24da6880141f7c0 AS builder
ARG TARGETARCH
# For another CPU the binary is cross-compiled, because emulation takes ten times as long. A C compiler is
# also needed, because the cryptography (ring) is partly C.
RUN set -eu; \
    case "$TARGETARCH" in \
      amd64) cpu=x86_64; compiler="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
      arm64) cpu=aarch64; compiler="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
      *) echo "cannot build for '$TARGETARCH', only for amd64 and arm64" >&2; exit 1 ;; \
    esac; \
    if [ "$cpu" != "$(uname -m)" ]; then \
      apt-get update; \
      apt-get install --yes --no-install-recommends $compiler; \
      rustup target add "$cpu-unknown-linux-gnu"; \
    fi; \
    echo "$cpu-unknown-linux-gnu" > /triple
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Kernels for arm64 have pages of 4, 16 or 64 KiB, and the allocator must be compiled for the largest.
ENV AARCH64_UNKNOWN_LINUX_GNU_JEMALLOC_SYS_WITH_LG_PAGE=16
# crt-static because there is no libc in the image. Cargo applies it to the binary only, and not to build
# scripts and macros, if --target is given.
ENV RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo/registry/src=/cargo"
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin oauth-operator --target "$(cat /triple)" \
    && cp "target/$(cat /triple)/release/oauth-operator" /oauth-operator
# With the timestamp of the commit, the SBOM is reproducible.
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    export SOURCE_DATE_EPOCH; \
    version=$(sed -n 's/.*cargo_cyclonedx_version=\([0-9.]*\).*/\1/p' tests/tools/install); \
    env --unset=RUSTFLAGS cargo install --quiet --locked cargo-cyclonedx --version "$version" \
    && hack/sbom "$(cat /triple)" /sbom.cdx.json

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="oauth-operator" \
      org.opencontainers.image.description="A Kubernetes operator that keeps OAuth 2.0 tokens fresh in Secrets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/evolutionx/oauth-operator" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# CA certificates are compiled into the binary.
COPY --from=builder /oauth-operator /sbom.cdx.json /
# Numeric, so that the kubelet can verify that it is not root.
USER 65532:65532
ENTRYPOINT ["/oauth-operator"]
CMD ["run"]
