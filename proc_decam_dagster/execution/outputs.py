"""Outputs of a graph: the RUN made ready for them, registered when they are there, deleted when they are half there."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from lsst.daf.butler import CollectionType, DatasetRef, Quantum, QuantumBackedButler, QuantumProvenanceData
from lsst.pipe.base.quantum_graph import PredictedQuantumGraph

if TYPE_CHECKING:
    from lsst.daf.butler import Butler
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraphComponents

    from proc_decam_dagster.repository import Repository

log = logging.getLogger(__name__)
_HALF = ".half.qg"

# Packages from wheels have no EUPS, and the middleware warns of it at every step.
logging.getLogger("lsst.utils.packages").setLevel(logging.ERROR)


class Outputs:
    """The outputs of one graph in one RUN.

    Parameters
    ----------
    butler : `~lsst.daf.butler.Butler`
        Writeable.
    root : `pathlib.Path`
        Root of its repository.
    graph : `~lsst.pipe.base.quantum_graph.PredictedQuantumGraph`
        What is run.
    run : `str`
        The RUN that its outputs were predicted for.
    """

    def __init__(self, butler: "Butler", root: Path, graph: "PredictedQuantumGraph", run: str) -> None:
        self.butler, self.root, self.graph, self.run = butler, root, graph, run
        self._pending: dict[UUID, QuantumProvenanceData] = {}

    def prepare(self) -> None:
        """Register the RUN and the dataset types, and write configurations, package versions and schemas."""
        with self.butler.transaction():  # its two rows at once: a RUN that lacks one takes no dataset ever
            self.butler.collections.register(self.run, CollectionType.RUN)
        self.graph.pipeline_graph.register_dataset_types(self.butler, include_packages=True)
        butler = self.butler.clone(run=self.run)
        self.graph.init_output_run(butler, existing=True)

    def add(self, quantum: UUID, provenance: QuantumProvenanceData) -> None:
        """Remember what a quantum wrote, for the next `register`."""
        self._pending[quantum] = provenance

    def forget(self, quantum: UUID) -> None:
        """Do not register what a quantum wrote: it is about to be run again, and replaces it."""
        self._pending.pop(quantum, None)

    def register(self) -> None:
        """Write what is remembered to the registry and the datastore's records, all or nothing."""
        pending = {q: p for q, p in self._pending.items() if p.actual_outputs}
        if pending:
            predicted = self.graph.build_execution_quanta(pending)
            quanta = [self._as_registered(predicted[q]) for q in pending]
            with self.butler.transaction():
                QuantumProvenanceData.collect_and_transfer(self.butler, quanta, pending.values())
        self._pending = {}

    def forget_registered(self) -> None:
        """Forget what is in the registry already: a connection may break after the commit went through."""
        predicted = self.graph.build_execution_quanta(self._pending)
        refs = {ref.id: ref for quantum in predicted.values() for rs in quantum.outputs.values() for ref in rs}
        known = {ref.id for ref, there in self.butler.stored_many(refs.values()).items() if there}
        self._pending = {q: p for q, p in self._pending.items() if not p.actual_outputs <= known}

    def _as_registered(self, quantum: Quantum) -> Quantum:
        """Return a quantum whose outputs have the registry's dataset types: tasks may have asked for other classes."""
        types = self.graph.pipeline_graph.dataset_types
        outputs: dict = {}
        for dataset_type, refs in quantum.outputs.items():
            registered = types[dataset_type.name].dataset_type
            outputs[registered] = [
                ref if ref.datasetType == registered else DatasetRef(registered, ref.dataId, ref.run, id=ref.id)
                for ref in refs
            ]
        return Quantum(taskName=quantum.taskName, dataId=quantum.dataId, outputs=outputs)

    def discard(self, quanta: Iterable[UUID], *, killed: bool = False) -> None:
        """Delete files that killed quanta left: whatever was predicted and is not registered.

        Parameters
        ----------
        quanta : `~collections.abc.Iterable` [`uuid.UUID`]
            Those that did not succeed.
        killed : `bool`, optional
            Whether any process was killed: then it may have left a file under the name that it is written to first.
        """
        quanta = list(quanta)
        if killed:
            self._sweep()
        if not quanta:
            return
        predicted = self.graph.build_execution_quanta(quanta)
        refs = [ref for q in quanta for refs in predicted[q].outputs.values() for ref in refs]
        left = [ref for ref, registered in self.butler.stored_many(refs).items() if not registered]
        butler = QuantumBackedButler.from_predicted(
            config=str(self.root), predicted_inputs=(), predicted_outputs=[ref.id for ref in left],
            dimensions=self.butler.dimensions, datastore_records={},
            dataset_types={n.name: n.dataset_type for n in self.graph.pipeline_graph.dataset_types.values()},
        )  # fmt: skip
        try:
            there = [ref for ref, stored in butler.stored_many(left).items() if stored]
            if there:
                butler.pruneDatasets(there, disassociate=True, unstore=True, purge=True)
        finally:
            butler.close()

    def _sweep(self) -> None:
        """Delete the files that outputs are written to before they get their names.

        The middleware calls them by 16 random letters and the file's name with `.tmp` before its extension.
        """
        names: dict[Path, set[str]] = {}
        for quantum in self.graph.build_execution_quanta().values():
            for ref in (ref for refs in quantum.outputs.values() for ref in refs):
                uri = self.butler.getURI(ref, predict=True)
                if uri.isLocal:
                    path = Path(uri.ospath)
                    names.setdefault(path.parent, set()).add(path.name)
        for folder, expected in names.items():
            for path in folder.iterdir() if folder.is_dir() else ():
                stem, mark, extension = path.name[16:].rpartition(".tmp")
                if mark and stem + extension in expected and path.name not in expected:
                    log.info("deleting %s, whose writer was killed", path)
                    path.unlink()


def graph_file(folder: Path, run: str) -> Path:
    """Return where a RUN's graph is written for the workers; there is one as long as the RUN is not put in order."""
    return folder / (run.replace("/", "__") + ".qg")


def write_graph(components: "PredictedQuantumGraphComponents", path: Path) -> None:
    """Write a graph, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name.removesuffix(".qg") + _HALF)
    components.write(str(half))
    half.rename(path)


def clear_up(repository: "Repository", folder: Path, chain: str) -> int:
    """Delete what drivers that died have left unregistered in a chain's RUNs, and their graphs.

    Parameters
    ----------
    repository : `Repository`
        The survey's repository.
    folder : `pathlib.Path`
        Folder of the graphs.
    chain : `str`
        The chain, whose lock is held: no driver of it lives.

    Returns
    -------
    number : `int`
        Graphs that were left.
    """
    left = list(folder.glob(f"{chain.replace('/', '__')}__*.qg")) if folder.is_dir() else []
    for path in left:
        if not path.name.endswith(_HALF):  # of that none was begun
            log.warning("clearing up after a driver that died: %s", path.stem.replace("__", "/"))
            graph = PredictedQuantumGraph.read_execution_quanta(str(path))
            butler, run = repository.butler(writeable=True), graph.header.output_run or ""
            Outputs(butler, repository.root, graph, run).discard(graph.quantum_only_xgraph, killed=True)
        path.unlink()
    return len(left)
