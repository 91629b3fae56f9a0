#!/usr/bin/env bash
# Runs the sample: ./run.sh, to try it out, or ./run.sh dev | start | call | console | test. Looks
# for a JDK 25, fetches the jars into lib/ the first time, and hands over to java. It does not build
# anything: java compiles the sources as it starts.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

# A JDK of at least 25: the one that is set, the one on the path, or one that is installed.
jdk() {
  local home version
  local on_path; on_path=$(readlink -f "$(command -v java)" || true)
  for home in "${JAVA_HOME:-}" "${on_path%/bin/java}" /usr/lib/jvm/* \
      "$(/usr/libexec/java_home -v 25+ 2>/dev/null || true)"; do
    [ -x "$home/bin/javac" ] || continue
    version=$("$home/bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    if [ "${version:-0}" -ge 25 ]; then echo "$home"; return; fi
  done
  echo "A JDK 25 or newer is needed. One of these installs it:
  apt-get install openjdk-25-jdk      (Debian, Ubuntu, where the release has it)
  brew install openjdk@25             (macOS; then set JAVA_HOME)
  sdk install java 25-tem             (anywhere, with SDKMAN)" >&2
  exit 3
}
JAVA_HOME=$(jdk)
export JAVA_HOME

# What Debian and Ubuntu may lack: Maven for the download, and the libraries webrtc-java links to.
missing=()
fetched=no
if [ lib/.fetched -nt lib/pom.xml ] && ls lib/livekit-server-*.jar >/dev/null 2>&1; then
  fetched=yes
fi
[ $fetched = yes ] || command -v mvn >/dev/null || missing+=(maven)
if [ "$(uname)" = Linux ] && [ -e /sbin/ldconfig ]; then
  known=$(/sbin/ldconfig -p)
  while read -r library package; do
    case $known in *"$library"*) ;; *) missing+=("$package") ;; esac
  done <<'LIST'
libpulse.so.0 libpulse0
libudev.so.1 libudev1
libX11.so.6 libx11-6
libXfixes.so.3 libxfixes3
libXrandr.so.2 libxrandr2
libXcomposite.so.1 libxcomposite1
libdbus-1.so.3 libdbus-1-3
LIST
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null
  else
    installer="sudo apt-get install -y"
    [ "$(uname)" = Linux ] || installer="brew install"
    echo "Missing. This installs it:  $installer ${missing[*]}" >&2
    exit 3
  fi
fi

# Again when the list has changed.
if [ $fetched = no ]; then
  [ -w lib ] || { echo "$PWD/lib is not writable: the jars go there" >&2; exit 3; }
  echo "fetching the jars of lib/pom.xml into lib/, 100 MB, once"
  rm -rf lib/*.jar lib/test/*.jar
  quiet="--sun-misc-unsafe-memory-access=allow --enable-native-access=ALL-UNNAMED"
  MAVEN_OPTS="${MAVEN_OPTS:-} $quiet" \
    mvn -q -B -f lib/pom.xml generate-resources >lib/.fetching 2>&1 \
    || { cat lib/.fetching; echo "the jars could not be fetched: see above" >&2; exit 3; }
  mv lib/.fetching lib/.fetched
fi

# exec: so that signals reach the program.
if [ "${1:-}" = test ]; then
  exec "$JAVA_HOME/bin/java" @lib/java.options -cp 'lib/*:lib/test/*' AgentTest.java "${@:2}"
fi
exec "$JAVA_HOME/bin/java" @lib/java.options Agent.java "${@:-demo}"
