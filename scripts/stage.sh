# Sourced by run_*.sh: the environment, the profile, and one process or many.
#
#   PROFILE   configs/<profile>/: glm4-9b where a CUDA GPU is found, else tiny
#   MODEL     the base model, instead of the one that the configuration names
#   NPROC     processes on this machine (default 1); or start torchrun yourself with its variables
#
# A recipe sets RECIPE=name before and has no profile. It takes
#   DATA      file or folder of the data, instead of ../shared/data or the sample data
#   MODEL     the model to begin with, instead of the small one that the recipe makes
#   OUT       where everything is written (default outputs/<recipe>)
#   LIMIT     how many held-out items are measured
bash setup.sh
PATH="$PWD/.venv/bin:$PATH"

# torchrun gives restarted processes the store of those before them, with addresses where nobody
# listens any more: the restart fails as often as not. So each start gets a store of its own.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# Seconds that torchrun gives its processes to save after a signal, before it kills them.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}

if [ -n "${RECIPE:-}" ]; then
    OUT=${OUT:-outputs/$RECIPE}
    PROFILE=tiny # of the sample data's configurations; a recipe has its own
    echo "recipe: $RECIPE, into $OUT"
elif [ -n "${PROFILE:-}" ]; then
    echo "profile: $PROFILE (from PROFILE)"
elif [ -n "${DEFAULT_PROFILE:-}" ]; then
    PROFILE=$DEFAULT_PROFILE
    echo "profile: $PROFILE (the default of this script; PROFILE=… for another)"
elif command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
    PROFILE=glm4-9b
    echo "profile: $PROFILE (a CUDA GPU was found)"
else
    PROFILE=tiny
    echo "profile: $PROFILE (no CUDA GPU was found)"
fi
if [ ! -d "configs/$PROFILE" ]; then
    echo "PROFILE=$PROFILE: expected one of: $(cd configs && ls -d */ | grep -v deepspeed | tr -d / | xargs)" >&2
    exit 2
fi

launch() { # script configuration [options …]
    local script=$1 config=$2
    shift 2
    [ -z "${MODEL:-}" ] || set -- --model_name_or_path "$MODEL" "$@"
    start "$script" --config "$config" "$@"
}

start() { # script [options …], in NPROC processes
    if [ "${NPROC:-1}" -gt 1 ]; then
        attend torchrun --standalone --nproc_per_node "$NPROC" "$@"
    else
        attend python "$@"
    fi
}

# Run a command so that a signal to this script reaches it, and wait until it has saved and left:
# bash alone would die of SIGTERM and leave it running.
attend() {
    local code=0 signalled=0 child
    "$@" &
    child=$!
    # SIGTERM for both: what bash starts with & does not hear SIGINT.
    trap 'signalled=143; kill -TERM "$child" 2>/dev/null || true' TERM
    trap 'signalled=130; kill -TERM "$child" 2>/dev/null || true' INT
    wait "$child" || code=$?
    while kill -0 "$child" 2>/dev/null; do # a signal ends `wait`, not the command
        code=0
        wait "$child" || code=$?
    done
    trap - TERM INT
    [ "$code" -eq 0 ] || [ "$signalled" -eq 0 ] || code=$signalled
    return "$code"
}

# What an adapter makes of its model: both measured, compared item by item, and answers side by side.
compare() { # model adapter folder [options of evaluation.py …]
    local model=$1 adapter=$2 folder=$3
    shift 3
    start evaluation.py --model_name_or_path "$model" --output_dir "$folder/before" "$@"
    start evaluation.py --model_name_or_path "$model" --output_dir "$folder/after" \
        --adapter "$adapter" --baseline "$folder/before" "$@"
    attend python report.py --evaluations "$folder/before" "$folder/after" \
        --output_file "$folder/report.html"
}
