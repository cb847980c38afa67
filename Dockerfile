# A container image with the program, its libraries and the certificate authorities, and nothing
# else. docs/containers.md describes how to run it.
#
#   docker build -t tokenkeep .

FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --profile production --locked \
    && contrib/container/root-fs target/production/tokenkeep /image

FROM scratch
LABEL org.opencontainers.image.title="tokenkeep" \
      org.opencontainers.image.description="Keeps session tokens of the Sarus market data API alive" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /image /
# The folder that every runtime mounts as a tmpfs if the root file system is read-only.
ENV TOKENKEEP__CONTROL__SOCKET=/run/control.sock
# A number, so that Kubernetes can verify `runAsNonRoot`. Group 0: see contrib/container/root-fs.
USER 65532:0
# Token files and the state database. A volume is writable on a read-only root file system.
VOLUME /var/lib/tokenkeep
# Unhealthy while a token is not alive.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["/usr/bin/tokenkeep", "status", "--monitor"]
# The daemon is PID 1: it handles signals and reaps orphans of its commands.
ENTRYPOINT ["/usr/bin/tokenkeep"]
CMD ["run"]
