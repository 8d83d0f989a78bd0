# oidc-provider from npm. Sourced by tests/tools/install, whose `say`, `die`, `need`, `here` and lock it uses.
# shellcheck shell=bash
set -euo pipefail

readonly oidc_provider_version=9.13.3

# install_oidc-provider: the pinned packages of tests/support/oidc-provider/package-lock.json.
install_oidc-provider() {
  # shellcheck disable=SC2154 # `here` is the directory of tests/tools/install.
  local dir=$cache/oidc-provider-$oidc_provider_version pins=$here/../support/oidc-provider started=$SECONDS
  # A copy of the lock file, written last, marks the directory as complete and up to date.
  if ! cmp -s "$pins/package-lock.json" "$dir/.complete"; then
    need node nodejs
    need npm npm
    node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' ||
      die "node $(node --version) is too old for oidc-provider; install 20 or later, from the Node.js project"
    say "installing oidc-provider $oidc_provider_version; this is done once"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$pins/package.json" "$pins/package-lock.json" "$dir/"
    npm ci --prefix "$dir" --no-audit --no-fund --silent --ignore-scripts >&2
    cp "$pins/package-lock.json" "$dir/.complete"
    say "oidc-provider is ready after $((SECONDS - started)) s"
  fi
  echo "$dir"
}
