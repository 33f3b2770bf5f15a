#!/bin/sh
# Makes the namespace; safe to repeat. Perdure's workers add the search attributes themselves.
set -eu
until temporal operator cluster health >/dev/null 2>&1; do sleep 1; done
temporal operator namespace describe -n default >/dev/null 2>&1 ||
    temporal operator namespace create -n default --retention "${RETENTION:-720h}"
