# The image of every Ledgerline process; docker-compose.yml says which command each service runs.
FROM python:3.11.14-slim-bookworm

# Without the extras: Kafka and PostgreSQL run elsewhere, and nothing here needs Java, a compiler or a test runner.
WORKDIR /opt/ledgerline
COPY ops/requirements-runtime.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore \
    --require-hashes --only-binary :all: --requirement requirements-runtime.txt

COPY LICENSE ./
COPY schemas ./schemas
COPY engine ./engine
COPY streams ./streams
COPY sinks ./sinks
COPY ledgerline ./ledgerline

# The user may read the code and write its home only; no process needs more.
RUN python -m compileall -q . \
 && printf '#!/bin/sh\nexec python -m ledgerline.cli.app "$@"\n' > /usr/local/bin/ledgerline \
 && chmod 755 /usr/local/bin/ledgerline \
 && useradd --system --uid 10001 --create-home --home-dir /var/lib/ledgerline --shell /usr/sbin/nologin ledgerline

ENV PYTHONPATH=/opt/ledgerline \
    PYTHONUNBUFFERED=1 \
    LEDGERLINE_HOME=/var/lib/ledgerline \
    LEDGERLINE_LOG_FORMAT=json \
    LEDGERLINE_HTTP=0.0.0.0:9464
USER ledgerline
EXPOSE 9464
ENTRYPOINT ["ledgerline"]
CMD ["--help"]
