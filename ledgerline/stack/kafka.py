"""One combined KRaft node of Apache Kafka on a loopback port, kept alive by nobody but itself."""

import asyncio
import base64
import contextlib
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import psutil

from ledgerline.errors import UnreachableError
from ledgerline.stack import processes
from ledgerline.stack.jars import Report, kafka_jars
from ledgerline.stack.java import find_java
from ledgerline.stack.layout import Layout
from streams.kafka.admin import Admin
from streams.kafka.common import KafkaFailure

HOST = "127.0.0.1"
READY_TIMEOUT_S = 120.0
PORT_ATTEMPTS = 3
JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Djava.awt.headless=true")

# One node: every internal topic has one replica. The small numbers keep an idle broker below 300 MB, its start short.
# With a rebalance delay of 0 the first worker of a group begins at once. Flushes and acknowledgements stay as they are.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.threads=1
num.network.threads=2
num.io.threads=2
background.threads=2
auto.create.topics.enable=false
"""


class PortTaken(Exception):
    """The broker left because another program had taken a port between our look and its bind."""


def config_file(layout: Layout) -> Path:
    """The broker's configuration."""
    return layout.kafka / "server.properties"


def marker(layout: Layout) -> processes.Marker:
    """What only the command line of this stack's broker holds."""
    return ("kafka.Kafka", str(config_file(layout)))


def find(layout: Layout) -> psutil.Process | None:
    """Return the running broker of this stack, whoever started it."""
    return processes.find("java", marker(layout))


def address(layout: Layout) -> str:
    """Return host:port of the broker as its configuration names it."""
    for line in config_file(layout).read_text().splitlines():
        if line.startswith("advertised.listeners="):
            return line.partition("PLAINTEXT://")[2]
    raise UnreachableError(f"{config_file(layout)} names no listener; run `ledgerline down` and `ledgerline up`")


def start(layout: Layout, report: Report) -> psutil.Process:
    """Start the broker and wait until it answers; data of an earlier start is kept.

    The ports of the last start are used again if they are free, so that clients outside keep working.
    """
    jars = kafka_jars(layout.jars, report)
    java = [str(find_java()), *JVM, "-cp", ":".join(map(str, jars))]
    layout.kafka.mkdir(parents=True, exist_ok=True)
    for attempt in range(PORT_ATTEMPTS):
        configure(layout, *choose_ports(layout if attempt == 0 else None))
        format_storage(layout, java, report)
        report("starting Apache Kafka")
        try:
            return launch(layout, java)
        except PortTaken:
            report("a port was taken meanwhile, choosing another")
    raise UnreachableError(
        f"no free port for Kafka on {HOST} after {PORT_ATTEMPTS} attempts; run `ledgerline up` again"
    )


def stop(process: psutil.Process) -> None:
    """Let the broker close its logs; kill it if that takes too long (its logs are then recovered at the next start)."""
    processes.stop(process, (signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0))


def configure(layout: Layout, port: int, controller_port: int) -> None:
    """Write the configuration for these ports."""
    text = PROPERTIES.format(host=HOST, port=port, controller_port=controller_port, data=layout.kafka / "data")
    config_file(layout).write_text(text)


def choose_ports(last: Layout | None) -> tuple[int, int]:
    """Return two free ports, those that *last* had if possible."""
    if last is not None and config_file(last).exists():
        listeners = next(line for line in config_file(last).read_text().splitlines() if line.startswith("listeners="))
        ports = [int(part.rpartition(":")[2]) for part in listeners.split(",")]
        if len(ports) == 2 and all(map(is_free, ports)):
            return ports[0], ports[1]
    with socket.socket() as first, socket.socket() as second:
        first.bind((HOST, 0))
        second.bind((HOST, 0))
        return first.getsockname()[1], second.getsockname()[1]


def is_free(port: int) -> bool:
    """True if a server could listen on *port* now (connections in TIME_WAIT do not count, as for the broker)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def format_storage(layout: Layout, java: list[str], report: Report) -> None:
    """Write the broker's identity once. A killed format is repeated: the file that ends it is still missing."""
    if (layout.kafka / "data" / "meta.properties").exists():
        return
    report("formatting Kafka's storage")
    stray = processes.find("java", ("kafka.tools.StorageTool", str(config_file(layout))))
    if stray is not None:  # of a killed `up`
        processes.stop(stray, (signal.SIGKILL, 10.0))
    cluster_id = "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # an id may not begin with a dash
    arguments = ["kafka.tools.StorageTool", "format", "-g", "-t", cluster_id, "-c", str(config_file(layout))]
    done = subprocess.run([*java, *arguments], capture_output=True, text=True, check=False, timeout=READY_TIMEOUT_S)
    if done.returncode != 0:
        told = (done.stdout + done.stderr).strip()[-2000:]
        raise UnreachableError(f"Kafka's storage in {layout.kafka} could not be formatted: {told}")


def launch(layout: Layout, java: list[str]) -> psutil.Process:
    """Start the broker in a session of its own, so that Ctrl-C reaches only the command, and await it."""
    log = layout.kafka / "kafka.log"
    with log.open("wb") as output:
        process = psutil.Popen(
            [*java, "kafka.Kafka", str(config_file(layout))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=layout.kafka,
            start_new_session=True,
        )
    try:
        await_ready(layout, process)
    except BaseException:  # Ctrl-C too: a broker that nobody waits for is not left behind
        stop(process)
        raise
    return psutil.Process(process.pid)


def await_ready(layout: Layout, process: psutil.Process) -> None:
    """Return when the broker answers a request. Raises PortTaken, or UnreachableError with the end of its log."""
    where = address(layout)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if not processes.alive(process):
            if not is_free(int(where.rpartition(":")[2])):
                raise PortTaken
            raise UnreachableError(f"Kafka ended while starting{log_tail(layout)}")
        if accepts(where) and asyncio.run(answers(where)):
            return
        time.sleep(0.05)
    raise UnreachableError(f"Kafka at {where} does not answer after {READY_TIMEOUT_S:.0f} s{log_tail(layout)}")


def log_tail(layout: Layout) -> str:
    """The end of the broker's log, as the end of a message."""
    log = layout.kafka / "kafka.log"
    text = log.read_text(errors="replace").strip()[-2000:] if log.exists() else ""
    return (
        f"; the end of {log}:\n{text}" if text else f" and wrote nothing to {log}; is the disk full, is memory short?"
    )


def accepts(where: str) -> bool:
    """True if something listens at host:port."""
    host, _, port = where.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 0.5):
        return True
    return False


async def answers(where: str) -> bool:
    """True if a Kafka at host:port tells its brokers."""
    try:
        admin = await Admin.start(where, "ledgerline-up")
    except KafkaFailure:
        return False
    try:
        return await admin.broker_count() > 0
    except KafkaFailure:
        return False
    finally:
        await admin.close()
