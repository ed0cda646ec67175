"""Pickles that run code where they are unpickled: what they call, how, and where it is hidden."""

from __future__ import annotations

import bz2
import io
import marshal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pickle_assembler import (
    call,
    called_class,
    instance,
    legacy,
    listed,
    many,
    mapping,
    named,
    number,
    plain,
    raw,
    shell,
    stacked,
    tensor,
    text,
    whole,
)

Payload = Callable[[Path], bytes]
"""The opcodes that leave a file at that path where they are run, and give some value."""


def _touch(canary: Path) -> bytes:
    return text(f"touch {canary}")


def _source(canary: Path) -> bytes:
    return text(f"open({str(canary)!r}, 'w').close()")


def _argv(canary: Path) -> bytes:
    return listed([text("touch"), text(str(canary))])


def _with(argument: Payload, module: str, name: str, *more: bytes) -> Payload:
    return lambda canary: call(named(module, name), argument(canary), *more)


def _attribute(value: bytes, name: str) -> bytes:
    return call(named("builtins", "getattr"), value, text(name))


def _module(name: str) -> bytes:
    return call(named("importlib", "import_module"), text(name))


def _code(canary: Path) -> bytes:
    code = compile(f"open({str(canary)!r}, 'w').close()", "x", "exec")
    return call(named("marshal", "loads"), raw(marshal.dumps(code)))


def _new(cls: bytes, arguments: bytes, keywords: bytes) -> bytes:
    """NEWOBJ_EX."""
    return cls + arguments + keywords + b"\x92"


def _object_array(canary: Path) -> bytes:
    """A .npy file that numpy unpickles."""
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + whole(os_system(canary))


def _file(content: bytes) -> bytes:
    return call(named("io", "BytesIO"), raw(content))


_PARTIAL = named("functools", "partial")
_GLOBALS = stacked("torch._utils", "_rebuild_tensor_v2.__globals__.get")

os_system = _with(_touch, "os", "system")

ARMED: dict[str, Payload] = {
    "os-system": os_system,
    "posix-system": _with(_touch, "posix", "system"),
    "os-system-inst": lambda canary: instance("os", "system", _touch(canary)),
    "os-system-obj": lambda canary: called_class(named("os", "system"), _touch(canary)),
    "os-popen": lambda canary: call(_attribute(call(named("os", "popen"), _touch(canary)), "read")),
    "subprocess-getoutput": _with(_touch, "subprocess", "getoutput"),
    "subprocess-run": _with(_argv, "subprocess", "run"),
    "subprocess-check-call": _with(_argv, "subprocess", "check_call"),
    "subprocess-popen": lambda canary: call(
        _attribute(call(named("subprocess", "Popen"), _argv(canary)), "wait")
    ),
    "uuid-command": lambda canary: call(
        named("uuid", "_get_command_stdout"), text("touch"), text(str(canary))
    ),
    "eval": _with(_source, "builtins", "eval"),
    "exec": _with(_source, "builtins", "exec"),
    "python-2-eval": _with(_source, "__builtin__", "eval"),
    "import-getattr": lambda canary: call(
        _attribute(call(named("builtins", "__import__"), text("os")), "system"), _touch(canary)
    ),
    "import-module": lambda canary: call(_attribute(_module("os"), "system"), _touch(canary)),
    "attrgetter": lambda canary: call(
        call(call(named("operator", "attrgetter"), text("system")), _module("os")), _touch(canary)
    ),
    "methodcaller": lambda canary: call(
        call(named("operator", "methodcaller"), text("system"), _touch(canary)), _module("os")
    ),
    "partial": lambda canary: call(call(_PARTIAL, named("os", "system"), _touch(canary))),
    "partial-setstate": lambda canary: call(
        call(_PARTIAL, named("builtins", "print"))
        + many([named("os", "system"), many([_touch(canary)]), plain({}), plain({})])
        + b"b"
    ),
    "defaultdict-missing": lambda canary: call(
        _attribute(
            call(
                named("collections", "defaultdict"),
                call(_PARTIAL, named("os", "system"), _touch(canary)),
            ),
            "__missing__",
        ),
        plain(1),
    ),
    "map": lambda canary: call(
        named("builtins", "list"),
        call(named("builtins", "map"), named("os", "system"), listed([_touch(canary)])),
    ),
    "function-of-code": lambda canary: call(
        call(named("types", "FunctionType"), _code(canary), plain({}))
    ),
    "runpy-code": lambda canary: call(named("runpy", "_run_code"), _code(canary), plain({})),
    "timeit": lambda canary: call(named("timeit", "timeit"), text("pass"), _source(canary)),
    "interpreter": lambda canary: call(
        _attribute(call(named("code", "InteractiveInterpreter")), "runsource"), _source(canary)
    ),
    "ctypes": lambda canary: call(
        _attribute(call(named("ctypes", "CDLL"), b"N"), "system"), raw(f"touch {canary}".encode())
    ),
    "open": lambda canary: call(named("builtins", "open"), text(str(canary)), text("w")),
    "raw-open": lambda canary: call(named("_io", "FileIO"), text(str(canary)), text("w")),
    "path-touch": lambda canary: call(
        _attribute(call(named("pathlib", "PosixPath"), text(str(canary))), "touch")
    ),
    "copy-file": lambda canary: call(
        named("shutil", "copyfile"), text("/dev/null"), text(str(canary))
    ),
    "loads-in-bytes": lambda canary: call(named("pickle", "loads"), raw(whole(os_system(canary)))),
    "c-loads-in-bytes": lambda canary: call(
        named("_pickle", "loads"), raw(whole(os_system(canary)))
    ),
    "loads-in-bz2": lambda canary: call(
        named("pickle", "loads"),
        call(named("bz2", "decompress"), raw(bz2.compress(whole(os_system(canary))))),
    ),
    "loads-in-codecs": lambda canary: call(
        named("pickle", "loads"),
        call(named("codecs", "decode"), raw(whole(os_system(canary)).hex().encode()), text("hex")),
    ),
    "numpy-load": lambda canary: call(
        named("numpy", "load"), _file(_object_array(canary)), b"N", b"\x88"
    ),
    "torch-load": lambda canary: call(
        _new(
            _PARTIAL,
            many([named("torch", "load"), _file(legacy(os_system(canary)))]),
            plain({"weights_only": False}),
        )
    ),
    "storage-load-from-bytes": lambda canary: call(
        named("torch.storage", "_load_from_bytes"), raw(legacy(os_system(canary)))
    ),
    "dotted-name": lambda canary: call(stacked("torch.serialization", "os.system"), _touch(canary)),
    "dotted-globals": lambda canary: call(
        call(named("operator", "getitem"), call(_GLOBALS, text("__builtins__")), text("eval")),
        _source(canary),
    ),
}
"""Each sets its canary off where Python itself unpickles it, which the tests prove."""

NAMES = (
    *("nt.system", "os.execv", "os.fork", "os.posix_spawn", "os.kill", "os._exit", "os.remove"),
    *("sys.exit", "sys.modules", "pty.spawn", "socket.create_connection", "gc.get_objects"),
    *("urllib.request.urlopen", "webbrowser.open", "http.client.HTTPConnection", "ftplib.FTP"),
    *("torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load", "torch.load"),
    *("torch.package.PackageImporter", "torch.utils.cpp_extension.load_inline"),
    *("torch._inductor.codecache.PyCodeCache.load", "torch.ops.load_library", "torch.Tensor"),
    *("torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_wrapper_subclass"),
    *("torch._tensor._rebuild_from_type_v2", "torch.nn.Module", "torch.nn.modules.linear.os"),
    *("torch.optim.Adam", "torch.nn.modules.linear.Linear.forward", "torch.optim.adam.Adam.step"),
    *("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.load", "numpy.memmap"),
    *("numpy.ctypeslib.load_library", "numpy.f2py.crackfortran.getlincoef"),
    *("numpy.testing._private.utils.runstring", "runpy.run_path", "runpy.run_module"),
    *("ensurepip.bootstrap", "asyncio.run", "multiprocessing.util.spawnv_passfds", "pip.main"),
    *("shutil.rmtree", "tempfile.mkdtemp", "zipfile.ZipFile", "tarfile.open", "gzip.open"),
    *("zlib.decompress", "codecs.open", "_codecs.decode", "builtins.getattr", "builtins.setattr"),
    *("builtins.compile", "builtins.input", "builtins.breakpoint", "builtins.type"),
    *("builtins.bytearray", "builtins.range", "builtins.object.__subclasses__"),
    *("operator.itemgetter", "types.CodeType", "inspect.getmembers", "importlib.reload"),
    *("imp.load_source", "pydoc.pipepager", "distutils.spawn.spawn", "commands.getoutput"),
    *("copyreg.add_extension", "copyreg.__newobj__", "pickle.Unpickler", "dill.loads"),
    *("cloudpickle.loads", "joblib.load", "pandas.read_pickle", "yaml.unsafe_load"),
    *("antigravity.x", "collections.OrderedDict.__init__", "collections.OrderedDict "),
    *(" collections.OrderedDict", "collections.ordereddict", "Collections.OrderedDict"),
    *("qrnn_deploy._files.replacing", "qrnn_deploy.checkpoints.pickle_names.Shell"),
)
"""Functions and classes that no checkpoint needs, and names that only look like known ones."""

Hide = Callable[[bytes], bytes]

HIDDEN: dict[str, Hide] = {
    "in-a-list": lambda bad: listed([bad]),
    "in-a-tuple": lambda bad: many([bad]),
    "in-a-dictionary": lambda bad: mapping({"model": mapping({"weight": tensor(), "x": bad})}),
    "as-a-key": lambda bad: mapping([(bad, tensor())]),
    "popped": lambda bad: bad + b"0" + mapping({"weight": tensor()}),
    "popped-with-a-mark": lambda bad: b"(" + bad + b"1" + mapping({"weight": tensor()}),
    "as-an-offset": lambda bad: mapping({"weight": tensor(offset=bad)}),
    "as-a-size": lambda bad: mapping({"weight": tensor(size=bad)}),
    "as-a-stride": lambda bad: mapping({"weight": tensor(stride=bad)}),
    "as-a-storage": lambda bad: mapping({"weight": tensor(bad)}),
    "as-a-hook": lambda bad: call(
        named("torch._utils", "_rebuild_tensor_v2"), b"N", number(0), b")", b")", b"\x89", bad
    ),
    "as-a-storage-class": lambda bad: many([text("storage"), bad, b"N", b"N", number(4)]) + b"Q",
    "as-a-persistent-id": lambda bad: bad + b"Q",
    "as-a-parameter": lambda bad: call(named("torch._utils", "_rebuild_parameter"), bad),
    "as-a-state": lambda bad: shell("torch.nn.modules.linear.Linear", bad),
    "in-a-state": lambda bad: shell("torch.nn.modules.linear.Linear", mapping({"a": bad})),
    "as-slots": lambda bad: shell("torch.nn.modules.linear.Linear", b"N" + bad + b"\x86"),
    "as-arguments": lambda bad: named("torch.nn.modules.linear", "Linear") + bad + b"\x81",
    "as-keywords": lambda bad: _new(named("torch.nn.modules.linear", "Linear"), b")", bad),
    "as-a-class": lambda bad: bad + b")\x81",
    "as-a-factory": lambda bad: call(named("collections", "defaultdict"), bad),
    "in-pairs": lambda bad: call(named("collections", "OrderedDict"), listed([bad])),
    "in-a-scalar": lambda bad: call(named("numpy.core.multiarray", "scalar"), bad),
    "in-a-device": lambda bad: call(named("torch", "device"), bad),
    "in-the-optimizer": lambda bad: mapping(
        {"model": mapping({"linear.weight": tensor()}), "opt": mapping({"state": bad})}
    ),
    "behind-a-memo": lambda bad: b"N" + b"\x94" + bad + b"\x94" + mapping({"a": tensor()}),
}
"""Where in a checkpoint a payload may lie."""
