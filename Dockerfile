# docker build -t agent .
# docs/phone.md says how to run it. No setting and no key is in the image: they come from the
# environment.

# The library of webrtc-java needs glibc (Debian or Ubuntu), and links to these.
FROM eclipse-temurin:25-jdk AS java
RUN apt-get update && apt-get install -y --no-install-recommends libpulse0 libudev1 libx11-6 \
      libxfixes3 libxrandr2 libxcomposite1 libdbus-1-3 && rm -rf /var/lib/apt/lists/*
WORKDIR /agent

# The jars come before the sources. So a change to the sources does not fetch 100 MB again.
FROM java AS build
RUN apt-get update && apt-get install -y --no-install-recommends maven
COPY run.sh ./
COPY lib lib
RUN ./run.sh jars
COPY . .
# This compiles, and prepares the AOT caches. A start then takes half a second. Whoever runs the
# program may read it all.
RUN ./run.sh build && rm -rf lib/test && chmod -R a+rX .

# Maven stays behind. The program can write only into its outbox and /tmp.
FROM java
COPY --from=build /agent .
RUN useradd --uid 10001 --home-dir /agent --no-create-home --shell /usr/sbin/nologin agent \
      && install -d -m 700 -o agent -g agent outbox
USER 10001
VOLUME /agent/outbox
EXPOSE 8081
SHELL ["/bin/bash", "-c"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD \
      exec 3<>/dev/tcp/${HEALTH_HOST:-127.0.0.1}/${HEALTH_PORT:-8081} \
      && printf 'GET / HTTP/1.1\r\n\r\n' >&3 && read -r _ status _ <&3 && [ "$status" = 200 ]
# run.sh becomes java, which gets SIGTERM. Wait 10 s longer than DRAIN_SECONDS for its end.
ENTRYPOINT ["./run.sh", "start"]
