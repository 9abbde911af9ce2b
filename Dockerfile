# syntax=docker/dockerfile:1
# Images with a container engine; release/build.sh makes them without one. A program is a target:
#
#   docker build --target pd-autoscaler --tag registry.example.com/pd-autoscaler:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --target pd-webhook --tag ... --push .
#   docker build --target programs --output type=local,dest=programs .
#
# All programs are built in one step, which the targets share. It runs on the machine's own processor and builds for
# the platform of the image. Downloads and what is compiled stay in caches, so that the next build compiles what changed.

FROM --platform=$BUILDPLATFORM rust:1.95.0-alpine AS build
ARG TARGETARCH
# The image's toolchain, without the developers' components that rust-toolchain.toml adds.
ENV RUSTUP_TOOLCHAIN=1.95.0 \
    CARGO_INCREMENTAL=0 \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
    CC_x86_64_unknown_linux_musl=clang \
    CC_aarch64_unknown_linux_musl=clang
RUN apk add --no-cache build-base ca-certificates clang
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-musl ;; \
      arm64) echo aarch64-unknown-linux-musl ;; \
      *) echo "no programs for $TARGETARCH: build for linux/amd64 or linux/arm64" >&2; exit 1 ;; \
    esac > /target && rustup target add "$(cat /target)"
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --locked --profile dist --target "$(cat /target)" \
      --package pd-autoscaler --bin pd-autoscaler \
      --package pd-webhook --bin pd-webhook \
      --package pd-scheduler-plugin --bin pd-scheduler-plugin \
      --package kubectl-pd --bin kubectl-pd \
      --package pd-sim --bin pd-sim \
 && mkdir /programs \
 && cd "target/$(cat /target)/dist" \
 && cp pd-autoscaler pd-webhook pd-scheduler-plugin kubectl-pd pd-sim /programs/

# The programs for a terminal, and the others, as files.
FROM scratch AS programs
COPY --from=build /programs/ /

# All that an image needs beside its program: authorities, the user's name, the license.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /source/release/passwd /etc/passwd
COPY --from=build /source/LICENSE /usr/share/doc/pdautoscaler/LICENSE
LABEL org.opencontainers.image.source="https://github.com/pdautoscaler/pdautoscaler" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
USER 65532:65532

FROM base AS pd-webhook
LABEL org.opencontainers.image.title="pd-webhook" \
      org.opencontainers.image.description="Numeric SLA tolerations at admission"
COPY --from=build /programs/pd-webhook /pd-webhook
ENTRYPOINT ["/pd-webhook"]

FROM base AS pd-scheduler-plugin
LABEL org.opencontainers.image.title="pd-scheduler-plugin" \
      org.opencontainers.image.description="Numeric SLA tolerations at the scheduler"
COPY --from=build /programs/pd-scheduler-plugin /pd-scheduler-plugin
ENTRYPOINT ["/pd-scheduler-plugin"]

# The last is built when no target is named.
FROM base AS pd-autoscaler
LABEL org.opencontainers.image.title="pd-autoscaler" \
      org.opencontainers.image.description="Scales the prefill and decode workers of LLM services together"
COPY --from=build /programs/pd-autoscaler /pd-autoscaler
ENTRYPOINT ["/pd-autoscaler"]
