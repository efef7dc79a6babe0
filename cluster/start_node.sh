#!/usr/bin/env bash
# Makes this machine a node of a Ray cluster, with its GPUs (Ray finds them) and its VACC dies.
#
#   cluster/start_node.sh head [options of `ray start`]
#   cluster/start_node.sh HEAD:6379 [options of `ray start`]
#
# PYTHON is the interpreter that has mimo-restore (default: python); VACC_PYTHON the one that has vaststreamx, where
# that is another one. The dashboard, through which jobs are submitted, listens on this machine alone unless
# --dashboard-host says otherwise.
set -euo pipefail

if [ $# -lt 1 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
role=$1
shift
python=${PYTHON:-python}
if ! "$python" -c 'import mimo_core, ray' 2>/dev/null; then
    echo "$python has no mimo-restore: install it there, or name another interpreter in PYTHON" >&2
    exit 2
fi

options=()
if [ -n "${VACC_PYTHON:-}" ] || "$python" -c 'import vaststreamx' 2>/dev/null; then
    resources=$("$python" -m mimo_core.distributed.resources ${VACC_PYTHON:+"$VACC_PYTHON"})
    # So that each worker gets a die of its own.
    export RAY_custom_unit_instance_resources=VACC
    options+=(--resources "$resources")
    echo "VACC dies: $resources"
fi
if [ "$role" = head ]; then
    options+=(--head --port 6379 --dashboard-host 127.0.0.1)
else
    options+=(--address "$role")
fi
exec "$python" -m ray.scripts.scripts start --disable-usage-stats "${options[@]}" "$@"
