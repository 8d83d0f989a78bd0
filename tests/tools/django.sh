# Django OAuth Toolkit from PyPI. Sourced by tests/tools/install, whose `say`, `die`, `need`, `here` and lock it uses.
# shellcheck shell=bash
set -euo pipefail

readonly django_oauth_toolkit_version=3.4.1

# install_django: a virtual environment with the pinned packages of tests/support/django/requirements.txt.
install_django() {
  # shellcheck disable=SC2154 # `here` is the directory of tests/tools/install.
  local dir=$cache/django-oauth-toolkit-$django_oauth_toolkit_version requirements=$here/../support/django/requirements.txt
  local started=$SECONDS
  # The scripts of a virtual environment contain its path, so it cannot be created elsewhere and moved: a copy of the pinned
  # requirements, written last, marks it as complete and up to date.
  if ! cmp -s "$requirements" "$dir/.complete"; then
    need_python
    say "installing Django OAuth Toolkit $django_oauth_toolkit_version; this is done once"
    rm -rf "$dir"
    python3 -m venv "$dir" >&2
    "$dir/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements" >&2
    cp "$requirements" "$dir/.complete"
    say "Django OAuth Toolkit is ready after $((SECONDS - started)) s"
  fi
  echo "$dir"
}

need_python() {
  need python3 python3
  # Debian has the module that creates environments in a separate package.
  if ! python3 -c 'import ensurepip' 2>/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "python3 cannot create virtual environments: apt-get install python3-venv"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >&2
  fi
  python3 -c 'import ensurepip' 2>/dev/null ||
    die "python3 cannot create virtual environments; install the missing module with: sudo apt-get install python3-venv"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "python3 is too old for Django; install 3.10 or later with: sudo apt-get install python3 python3-venv"
}
