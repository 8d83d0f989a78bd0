# OpenStack Keystone from PyPI. Sourced by tests/tools/install, whose `say`, `die`, `here` and lock it uses, after django.sh.
# shellcheck shell=bash
set -euo pipefail

# install_keystone: a virtual environment with the pinned packages of tests/support/keystone/requirements.txt.
install_keystone() {
  # shellcheck disable=SC2154 # `here` is the directory of tests/tools/install.
  local requirements=$here/../support/keystone/requirements.txt version dir started=$SECONDS
  version=$(sed -n 's/^keystone==//p' "$requirements")
  # shellcheck disable=SC2154 # `cache` is a variable of tests/tools/install.
  dir=$cache/keystone-$version
  # As for Django: the copy of the requirements, written last, marks it as complete and up to date.
  if ! cmp -s "$requirements" "$dir/.complete"; then
    need_python
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Keystone needs Python 3.11 or later"
    say "installing Keystone $version; this is done once"
    rm -rf "$dir"
    python3 -m venv "$dir" >&2
    "$dir/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements" >&2
    cp "$requirements" "$dir/.complete"
    say "Keystone is ready after $((SECONDS - started)) s"
  fi
  echo "$dir"
}
