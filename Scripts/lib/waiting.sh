# Sourced by the scripts that wait for other processes.
# shellcheck shell=bash

# How long something may take that ends by itself, in seconds: a limit for what hangs, which no machine is too slow for.
patience=${CAIRN_PATIENCE:-900}

# Waits until the command $2… succeeds; ends the script when it has not within the limit, with what it waited for ($1).
wait_until() {
    local event=$1 end=$((SECONDS + patience))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || die "waited $patience seconds in vain for $event"
        sleep 0.02
    done
}
