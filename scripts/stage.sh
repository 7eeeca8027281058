# Sourced by run_*.sh: the environment, the profile, and one process or many.
#
#   PROFILE   configs/<profile>/: glm4-9b where a CUDA GPU is found, else tiny
#   MODEL     the base model, instead of the one that the configuration names
#   NPROC     processes on this machine (default 1); or start torchrun yourself with its variables
bash setup.sh
PATH="$PWD/.venv/bin:$PATH"

if [ -n "${PROFILE:-}" ]; then
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
    if [ "${NPROC:-1}" -gt 1 ]; then
        torchrun --standalone --nproc_per_node "$NPROC" "$script" --config "$config" "$@"
    else
        python "$script" --config "$config" "$@"
    fi
}
