# shellcheck shell=bash disable=SC2034
# What the scripts in this folder share. Sourced, never run.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s %s\n' "$(date +%T.%3N)" "$*" >&2; }
die() { say "error: $*"; exit 1; }
# The comment that opens a script, down to the first line that is none, is its help.
usage() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

STATE=$(realpath -m "${SLUICE_STATE:-${XDG_STATE_HOME:-$HOME/.local/state}/sluice}")
CACHE=$(realpath -m "${SLUICE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice}")
BIN=$CACHE/bin
for p in "SLUICE_STATE $STATE" "SLUICE_CACHE $CACHE"; do
  # The paths are written into YAML, TOML and JSON, and a Unix socket's path has at most 107 characters.
  [[ ${p#* } =~ ^/[A-Za-z0-9._/-]{1,60}$ ]] ||
    die "the folder ${p#* } can't be used: its path must be at most 60 letters, digits, '.', '_', '-' and '/'.
Choose another one with ${p%% *}"
done
mkdir -p "$BIN"

# The bridge that stands for the node's network; its address is the node's. $BRIDGE and the cgroup of the same name mark
# everything that a cluster of ours is made of.
BRIDGE=sluice0 NODE_IP=10.244.0.1

# lock FOLDER: until the script ends, it alone changes what the folder stands for. The lock is on a folder that stays, so
# that no lock file is left. Whatever outlives the script must close descriptor 9.
lock() {
  exec 9<"$1"
  flock -n 9 || { say "waiting for another of these scripts to end"; flock 9; }
}

# need COMMAND=PACKAGE...: installs the packages whose command, or file, is missing.
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
    die "missing on this machine: ${missing[*]} (names of Debian packages). Install them and run this again"
  fi
  say "installing ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$CACHE/apt.log" 2>&1 || die "apt-get could not install ${missing[*]}: $(tail -n 3 "$CACHE/apt.log")"
}

# need_go: builds are from source through the Go module proxy; Debian's own Go is too old for them.
need_go() {
  command -v go >/dev/null || die "no 'go' in PATH. Install Go 1.24 or newer, or, to use a cluster you have, set KUBECONFIG"
}

# until_ok SECONDS WHAT COMMAND...: polls. check_alive is the caller's: it ends the wait early when the cause is known.
until_ok() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    check_alive
    [ "$SECONDS" -lt "$end" ] || die "$what is not ready in time. The logs are in $S"
    sleep 0.1
  done
}
