#!/bin/sh
# What people write first: checks COUNT tokens, one after the other, with curl and jq.
# Usage: shell.sh URL COUNT
set -eu
n=0
while [ "$n" -lt "$2" ]; do
  token="$(printf '%08x-5ca1-4b1e-8000-000000000000' "$n")"
  remaining="$(curl -sf --get --data-urlencode "SessionToken=$token" "$1/QuerySessionToken" |
    jq -r .Result.Remaining)"
  [ "$remaining" -gt 0 ]
  n=$((n + 1))
done
