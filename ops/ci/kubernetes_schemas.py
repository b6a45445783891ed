"""JSON Schemas for kubeconform out of what Kubernetes and KEDA publish with their source.

    python -m ops.ci.kubernetes_schemas KUBERNETES_DIR KEDA_DIR OUT_DIR MANIFEST...

Only for the kinds that the manifests have: each file holds all that it refers to. KUBERNETES_DIR and KEDA_DIR are the
unpacked Go modules `k8s.io/kubernetes` and `github.com/kedacore/keda/v2`. A field that a kind does not have is refused:
an API server that does not know it may drop it without a word.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

SWAGGER = Path("api", "openapi-spec", "swagger.json")
CRDS = Path("config", "crd", "bases")
PREFIX = "#/definitions/"
REFERENCE = re.compile(rf'"\$ref": "{PREFIX}([^"]+)"')
# Both say "string or integer" in words that JSON Schema has not.
EITHER = {"int-or-string": ["string", "integer"], "quantity": ["string", "number"]}
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def strict(schema: Any) -> Any:
    """The same schema, in which an object that names its fields has no others."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": EITHER["int-or-string"]}
    made = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not open_ended:
        made["additionalProperties"] = False
    return made


def reachable(name: str, definitions: dict[str, Any]) -> set[str]:
    """A definition and all that it refers to, however far."""
    found, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += REFERENCE.findall(json.dumps(definitions[one]))
    return found


def core_kinds(folder: Path, wanted: set[str]) -> dict[str, Any]:
    """By file name: these kinds, where they are Kubernetes' own, with the definitions it refers to beside it."""
    definitions = strict(json.loads((folder / SWAGGER).read_text())["definitions"])
    definitions[QUANTITY] = {"type": EITHER["quantity"]}
    found = {}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            file = file_name(kind["kind"], kind["group"], kind["version"])
            if file not in wanted:
                continue
            needed = {one: definitions[one] for one in sorted(reachable(name, definitions))}
            found[file] = {"$ref": f"{PREFIX}{name}", "definitions": needed}
    return found


def custom_kinds(folder: Path) -> dict[str, Any]:
    """By file name: every kind that KEDA defines."""
    found = {}
    for path in sorted((folder / CRDS).glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            found[file_name(spec["names"]["kind"], spec["group"], version["name"])] = schema
    return found


def file_name(kind: str, group: str, version: str) -> str:
    """As kubeconform's `{{.ResourceKind}}{{.KindSuffix}}` says it."""
    return "-".join(part for part in (kind, group.partition(".")[0], version) if part).lower()


def used(manifests: list[str]) -> set[str]:
    """The file names of the kinds in these manifests."""
    found = [one for path in manifests for one in yaml.safe_load_all(Path(path).read_text())]
    return {file_name(one["kind"], *("/" + one["apiVersion"]).split("/")[-2:]) for one in found}


def main(kubernetes: str, keda: str, out: str, *manifests: str) -> None:
    """Write the schemas; a kind that nobody knows has none, and kubeconform says so."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = used(list(manifests))
    schemas = core_kinds(Path(kubernetes), wanted) | custom_kinds(Path(keda))
    for name in wanted & set(schemas):
        (folder / f"{name}.json").write_text(json.dumps(schemas[name]))


if __name__ == "__main__":
    main(*sys.argv[1:])
