#!/bin/sh
# Makes the units known. They are started by whoever has written /etc/tidemark/tidemark.yaml; an upgrade
# restarts what runs.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart tidemark.service 'tidemark-apply@*.service' || true
fi
