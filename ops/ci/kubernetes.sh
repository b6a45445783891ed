#!/usr/bin/env bash
# Holds ops/k8s, as kustomize builds it, against the schemas of Kubernetes and KEDA: `make kubernetes`.
# Needs Go: the tools and the schemas come as Go modules, into build/ and Go's own cache (the first time two minutes).
set -euo pipefail

kubernetes=v1.33.4 keda=v2.17.2 kustomize=v5.7.1 kubeconform=v0.8.0
python=${PYTHON:-.venv/bin/python}
folder=build/kubernetes
command -v go >/dev/null || { echo "make kubernetes: Go is not installed; it builds kustomize and kubeconform." >&2; exit 1; }
mkdir -p "$folder"
export GOBIN="$PWD/build/tools"
[ -x "$GOBIN/kustomize" ] || go install "sigs.k8s.io/kustomize/kustomize/v5@$kustomize"
[ -x "$GOBIN/kubeconform" ] || go install "github.com/yannh/kubeconform/cmd/kubeconform@$kubeconform"

unpacked() {
    (cd "$(mktemp -d)" && go mod init schemas >/dev/null 2>&1 && go mod download -json "$1") |
        "$python" -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'
}
built=()
for where in base overlays/gpu; do
    built+=("$folder/$(basename "$where").yaml")
    "$GOBIN/kustomize" build "ops/k8s/$where" >"${built[-1]}"
done
"$python" -m ops.ci.kubernetes_schemas "$(unpacked "k8s.io/kubernetes@$kubernetes")" \
    "$(unpacked "github.com/kedacore/keda/v2@$keda")" "$folder/schemas" "${built[@]}"
"$GOBIN/kubeconform" -strict -summary -schema-location "$folder/schemas/{{.ResourceKind}}{{.KindSuffix}}.json" "${built[@]}"
