# The image of `compose.yaml`: the `vacancy` command, and nothing else.
FROM python:3.11-slim
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY resources resources
COPY projections projections
COPY streams streams
COPY clients clients
COPY cli cli
COPY testing testing
COPY placement_api placement_api
COPY ui ui
RUN pip install --no-cache-dir . \
    && useradd --create-home --home-dir /var/lib/vacancy vacancy \
    && install --directory --owner vacancy --group vacancy /var/lib/vacancy/state
USER vacancy
WORKDIR /var/lib/vacancy
ENV XDG_STATE_HOME=/var/lib/vacancy/state
ENTRYPOINT ["vacancy"]
