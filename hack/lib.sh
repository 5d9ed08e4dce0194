# shellcheck shell=bash disable=SC2034
# Functions and variables that the scripts of this folder share. Sourced, never run.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s %s\n' "$(date +%T.%3N)" "$*" >&2; }
die() { say "error: $*"; exit 1; }
# Prints the help of a script, which is the comment at its beginning.
usage() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

STATE=$(realpath -m "${SLUICE_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/sluice}")
CACHE=$(realpath -m "${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}")
BIN=$CACHE/bin
for p in "SLUICE_STATE $STATE" "SLUICE_CACHE $CACHE"; do
  # The paths are written into YAML, TOML and JSON, and a Unix socket's path has at most 107 characters.
  [[ ${p#* } =~ ^/[A-Za-z0-9._/-]{1,60}$ ]] ||
    die "the folder ${p#* } is unusable: its path may have at most 60 characters: letters, digits, '.', '_', '-' and '/'.
Set another folder with ${p%% *}"
done
mkdir -p "$BIN"

# The bridge that represents the node's network, with the address of the node. $BRIDGE and the cgroup of the same name
# mark all parts of a cluster of ours.
BRIDGE=sluice0 NODE_IP=10.244.0.1

# lock FOLDER: no other script holds this lock until this one ends. The lock is on an existing folder, so that no lock
# file is left. A process that outlives the script must close descriptor 9.
lock() {
  exec 9<"$1"
  flock -n 9 || { say "waiting for another script of hack/ to finish"; flock 9; }
}

# need COMMAND=PACKAGE...: installs the packages whose command or file is missing.
need() {
  local pair missing=()
  for pair; do
    case $pair in
      /*) [ -e "${pair%=*}" ] ;;
      *) command -v "${pair%=*}" >/dev/null ;;
    esac || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "missing Debian packages: ${missing[*]}. Install them and run this again"
  fi
  say "installing ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$CACHE/apt.log" 2>&1 || die "apt-get failed to install ${missing[*]}: $(tail -n 3 "$CACHE/apt.log")"
}

# need_go: the builds come from the Go module proxy, and the Go of Debian is too old for them.
need_go() {
  command -v go >/dev/null || die "there is no 'go' in PATH: install Go 1.24 or newer, or set KUBECONFIG to use an existing cluster"
}

# until_ok SECONDS NAME COMMAND...: polls until the command succeeds. The caller defines check_alive, which can end
# the wait early.
until_ok() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    check_alive
    [ "$SECONDS" -lt "$end" ] || die "$what is not ready in time; the logs are in $S"
    sleep 0.1
  done
}
