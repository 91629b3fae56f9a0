#!/usr/bin/env bash
# Runs the sample: ./run.sh, to try it out, or ./run.sh dev | start | call | console | test | bench.
# It looks for a JDK 25, fetches the jars into lib/ the first time, compiles the sources when they
# have changed, and hands over to java. `jars` and `build` are for the image of a container: `jars`
# only fetches the jars, and `build` does all but hand over.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"

# Prints the folder of a JDK of at least 25: that of JAVA_HOME, the one on the path, or one that is
# installed. Exits if there is none.
jdk() {
  local home version
  local on_path; on_path=$(readlink -f "$(command -v java)" || true)
  for home in "${JAVA_HOME:-}" "${on_path%/bin/java}" /usr/lib/jvm/* \
      "$(/usr/libexec/java_home -v 25+ 2>/dev/null || true)"; do
    [ -x "$home/bin/javac" ] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release" 2>/dev/null || true)
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

# Debian and Ubuntu may lack Maven, which downloads the jars, and the libraries that webrtc-java
# links to. If root runs this script, it installs them. Otherwise it prints the command that does
# so.
missing=()
fetched=no
if [ lib/.fetched -nt lib/pom.xml ] && ls lib/livekit-server-*.jar lib/libraries.jar \
    >/dev/null 2>&1; then
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

# The jars are fetched again when lib/pom.xml has changed.
if [ $fetched = no ]; then
  [ -w lib ] || { echo "$PWD/lib is not writable: the jars go there" >&2; exit 3; }
  echo "fetching the jars of lib/pom.xml into lib/, 100 MB, once"
  rm -rf lib/*.jar lib/test/*.jar lib/*.aot lib/.trained
  quiet="--sun-misc-unsafe-memory-access=allow --enable-native-access=ALL-UNNAMED"
  MAVEN_OPTS="${MAVEN_OPTS:-} $quiet" \
    mvn -q -B -C -f lib/pom.xml generate-resources >lib/.fetching 2>&1 \
    || { cat lib/.fetching; echo "the jars could not be fetched: see above" >&2; exit 3; }
  "$JAVA_HOME/bin/javac" -d lib/.made lib/Libraries.java
  "$JAVA_HOME/bin/jar" --create --file lib/libraries.jar -C lib/.made .
  rm -rf lib/.made
  mv lib/.fetching lib/.fetched
fi
[ "${1:-}" != jars ] || exit 0

new=lib/app/.$$
trap 'rm -rf "$new"' EXIT

# Compiles the class $2, and all that it names, with the class path $3, to a jar in the folder $1.
# Sets `jar` to its name: a sum over all sources but for those in the folders $4 .., and over what
# else it is made of. So an old jar is never run. Fails if nothing can be written there.
compile() {
  local prune=(-path ./lib -o -path './.?*') folder
  for folder in "${@:4}"; do prune+=(-o -path "./$folder"); done
  jar=$1/$({ find -L . \( "${prune[@]}" \) -prune -o -name '*.java' -exec cksum {} + | sort
    cksum lib/pom.xml "$JAVA_HOME/release"; } | cksum | tr -d ' ').jar
  [ ! -e "$jar" ] || return 0
  if ! mkdir -p "$1" lib/app 2>/dev/null || [ ! -w "$1" ] || [ ! -w lib/app ]; then
    echo "$PWD/lib is not writable, so java compiles the sources itself: it starts later" >&2
    return 1
  fi
  echo "compiling, once after each change"
  "$JAVA_HOME/bin/javac" -J-XX:TieredStopAtLevel=1 -J-XX:+UseSerialGC -proc:none -d "$new/classes" \
    -cp "$3" --source-path . "$2.java" || exit
  "$JAVA_HOME/bin/jar" --create --no-compress --file "$new/jar" -C "$new/classes" . || exit
  mv "$new/jar" "$jar" || exit
  rm -rf "$new"
  for old in "$1"/*.jar; do [ "$old" = "$jar" ] || rm -f "$old"; done
}

# `exec` replaces this shell by java, so that signals reach the program.
java=("$JAVA_HOME/bin/java" @lib/java.options)
case ${1:-} in
  test)
    path='lib/*:lib/test/*'
    compile lib/test/app AgentTest "$path" \
      || exec "${java[@]}" -cp "$path" AgentTest.java "${@:2}"
    exec "${java[@]}" -cp "$path:$jar" AgentTest "${@:2}" ;;
  bench)
    trials/install
    exec "${java[@]}" bench/Bench.java "${@:2}" ;;
esac

compile lib/app Agent 'lib/*' trials bench || exec "${java[@]}" Agent.java "${@:-demo}"

# An AOT cache holds what Java knows of the classes at the end of a training run. That run needs no
# key. There is one cache for starts from the jar and one for starts from source. Both hold only the
# libraries, and none of our classes. So they stay right after a change to the sources, and no start
# takes an old class of ours from them.
train() { # $1 is the name of the cache; the rest is what java runs
  OUTBOX_DIR=$new/$1 OPENAI_API_KEY=none "$JAVA_HOME/bin/java" "@$new/java.options" \
    -XX:AOTCacheOutput="$new/$1.aot" "${@:2}" demo --train >"$new/$1.log" 2>&1 \
    && mv "$new/$1.aot" lib/
}
case ${1:-} in
  dev | start | build)
    of=$(cksum lib/pom.xml lib/*.options lib/Libraries.java demo/Training.java "$JAVA_HOME/release")
    if [ "$of" != "$(cat lib/.trained 2>/dev/null)" ] && [ -w lib ] && [ -w lib/app ]; then
      echo "preparing quick starts, once (15 s)"
      mkdir -p "$new"
      for options in java jar; do
        grep -v AOTCache "lib/$options.options" >"$new/$options.options"
      done
      train jar "@$new/jar.options" Libraries "$jar" &
      if train source Agent.java && wait $!; then
        echo "$of" >lib/.trained
      else
        wait
        head -n 5 "$new/source.log"
        echo "so the training run has failed; it goes on without, and starts later"
      fi
      rm -rf "$new"
    fi ;;
esac
[ "${1:-}" != build ] || exit 0
exec "${java[@]}" @lib/jar.options -cp "lib/*:$jar" Agent "${@:-demo}"
