#!/bin/sh
# Make .venv and install the package into it. Safe to run again; quick when nothing has changed.
#   scripts/setup.sh [EXTRA,...]      for example: scripts/setup.sh test,lint,train,interop
set -eu
cd "$(dirname "$0")/.."

extras="${1:-}"
python="${PYTHON:-}"
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3.13 python3.10 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      python="$candidate"
      break
    fi
  done
fi
[ -n "$python" ] || { echo "error: no Python 3.10 to 3.13 found; install one, or set PYTHON" >&2; exit 2; }

[ -x .venv/bin/python ] || "$python" -m venv .venv
# The stamp: from what was installed, and with which extras; those that came before are kept.
stamp=".venv/.installed"
sum="$(cat pyproject.toml constraints.txt scripts/setup.sh | cksum)"
installed=" "
[ ! -e "$stamp" ] || installed="$(sed -n 2p "$stamp")"
missing=""
for extra in $(echo "$extras" | tr ',' ' '); do
  case ",$installed," in *",$extra,"*) ;; *) missing="$missing,$extra" ;; esac
done
if [ "$(sed -n 1p "$stamp" 2>/dev/null || true)" != "$sum" ] || [ -n "$missing" ]; then
  extras="$(echo "$installed$missing" | sed 's/^[ ,]*//')"
  echo "installing into .venv ..."
  .venv/bin/python -m pip install -q --upgrade "pip>=24" 2>/dev/null || true
  # torch first and pinned: a later package could otherwise pull another build of it.
  .venv/bin/python -m pip install -q "$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' constraints.txt)"
  .venv/bin/python -m pip install -q -c constraints.txt -e ".${extras:+[$extras]}"
  printf '%s\n%s\n' "$sum" "$extras" >"$stamp"
fi
