# One static binary on nothing. `docker build --build-arg BIN=pd-autoscaler -t pd-autoscaler .`
# On Alpine, Rust's own target is musl, linked statically.
FROM rust:1.95.0-alpine AS build
ARG BIN=pd-autoscaler
# The image's toolchain, without the developers' components that rust-toolchain.toml adds.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apk add --no-cache build-base
WORKDIR /source
COPY . .
RUN cargo build --locked --release --bin "$BIN" \
 && strip "target/release/$BIN" \
 && install -D "target/release/$BIN" /image/program \
 && install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt

FROM scratch
LABEL org.opencontainers.image.source="https://github.com/pdautoscaler/pdautoscaler" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/program"]
