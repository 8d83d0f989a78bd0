# Keycloak from Maven Central. Sourced by tests/tools/install, whose `say`, `die`, `need` and lock it uses.
# shellcheck shell=bash
set -euo pipefail

readonly keycloak_version=26.4.5 maven_dependency_version=3.9.0
readonly keycloak_features=client-auth-federated,kubernetes-service-accounts

# install_keycloak: unpacks the distribution and runs its one-time build, which saves 14 s at each start.
install_keycloak() {
  # The build enables preview features and requests client certificates.
  local dir=$cache/keycloak-$keycloak_version-federated started=$SECONDS
  if [[ ! -d $dir ]]; then
    need mvn maven
    need_java
    say "fetching Keycloak $keycloak_version; this is done once"
    rm -rf "$dir.part"
    mkdir -p "$dir.part"
    mvn -B -q "org.apache.maven.plugins:maven-dependency-plugin:$maven_dependency_version:unpack" \
      -Dartifact="org.keycloak:keycloak-quarkus-dist:$keycloak_version:zip" \
      -DoutputDirectory="$dir.part" -DmarkersDirectory="$dir.part/markers" >&2
    "$dir.part/keycloak-$keycloak_version/bin/kc.sh" build --db=dev-mem \
      --features="$keycloak_features" --https-client-auth=request >&2
    # The directory gets its final name only when it is complete.
    mv "$dir.part/keycloak-$keycloak_version" "$dir"
    rm -rf "$dir.part"
    say "Keycloak is ready after $((SECONDS - started)) s"
  fi
  echo "$dir"
}

need_java() {
  need java default-jre-headless
  local version
  version=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -XshowSettings:properties -version 2>&1 |
    sed -n 's/^ *java\.specification\.version = \([0-9]*\).*/\1/p')
  ((${version:-0} >= 17)) || die "java ${version:-of an unknown version} is too old for Keycloak; install 17 or later with: sudo apt-get install default-jre-headless"
}
