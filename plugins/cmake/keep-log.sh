#!/bin/sh
# Runs a compiler and keeps what it prints in OBJECT.log (OBJECT follows -o), so that a build is
# quiet and the registers and spills that ptxas reports can be read later. Errors are printed too.
object=
previous=
for argument in "$@"; do
    [ "$previous" = -o ] && object=$argument
    previous=$argument
done
[ -n "$object" ] || exec "$@"
"$@" >"$object.log" 2>&1
status=$?
if [ $status -ne 0 ]; then
    cat "$object.log" >&2
else
    grep -E 'warning|error' "$object.log" >&2
fi
exit $status
