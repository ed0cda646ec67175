"""What TensorRT for RTX makes of the plugin library, for test_tensorrt_plugin.py.

Run in a process of its own: the registry is global to a process, and the parser ends the process
once it has made a plugin (TensorRT for RTX has no plugin layers). Each message of TensorRT's log
is written as one JSON line, ``[severity, message]``, before anything else can happen.

    python tensorrt_registry.py LIBRARY creators
    python tensorrt_registry.py LIBRARY create OP FIELDS     (FIELDS: JSON, {name: [type, values]})
    python tensorrt_registry.py LIBRARY parse MODEL {override | plain}
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tensorrt_rtx_bindings as trt

NUMPY = {"INT32": np.int32, "INT64": np.int64, "FLOAT32": np.float32, "FLOAT64": np.float64}


def write(value: Any) -> None:
    print(json.dumps(value), flush=True)


class Log(trt.ILogger):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        trt.ILogger.__init__(self)

    def log(self, severity: Any, message: str) -> None:
        write([severity.name, message])


def field(name: str, kind: str, values: Any) -> Any:
    if kind == "CHAR":
        data = np.frombuffer(values.encode(), np.int8)
    else:
        data = np.array(values, NUMPY[kind])
    return trt.PluginField(name, data, getattr(trt.PluginFieldType, kind))


def creators(registry: Any) -> None:
    found = {}
    for creator in registry.all_creators:
        if creator.plugin_namespace != "qrnn_deploy":
            continue
        fields = {field.name: field.type.name for field in creator.field_names}
        found[creator.name] = [creator.plugin_version, fields, creator.interface_info.kind]
    write({"creators": found})


def create(registry: Any, op: str, fields: str) -> None:
    creator = registry.get_creator(op, "1", "qrnn_deploy")
    collection = trt.PluginFieldCollection(
        [field(name, *value) for name, value in json.loads(fields).items()]
    )
    plugin = creator.create_plugin("the_layer", collection, trt.TensorRTPhase.BUILD)
    if plugin is None:
        write({"plugin": None})
        return
    core = plugin.get_capability_interface(trt.PluginCapabilityType.CORE)
    build = plugin.get_capability_interface(trt.PluginCapabilityType.BUILD)
    runtime = plugin.get_capability_interface(trt.PluginCapabilityType.RUNTIME)
    write(
        {
            "plugin": [core.plugin_name, core.plugin_version, core.plugin_namespace],
            "outputs": build.num_outputs,
            "metadata": build.metadata_string,
            "kinds": [part.interface_info.kind for part in (core, build, runtime)],
        }
    )


def parse(model: str, mode: str, log: Log) -> None:
    # The parser asks the registry that belongs to its builder.
    network = trt.Builder(log).create_network(
        1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    )
    parser = trt.OnnxParser(network, log)
    if mode == "override":
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
    parsed = parser.parse_from_file(model)
    write({"parsed": parsed, "layers": network.num_layers})


def main(library: str, command: str, *arguments: str) -> None:
    log = Log()
    runtime = trt.Runtime(log)  # the first object of a process brings the global logger
    registry = trt.get_plugin_registry()
    write({"loaded": registry.load_library(library) is not None})
    if command == "parse":
        parse(*arguments, log)
    else:
        {"creators": creators, "create": create}[command](registry, *arguments)
    del runtime


if __name__ == "__main__":
    main(*sys.argv[1:])
