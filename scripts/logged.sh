# To be sourced.
# logged FILE COMMAND..: its output is added to the file; the last lines are shown where it fails, and the script ends.
logged() {
  local log=$1
  shift
  "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2 && exit 1; }
}
