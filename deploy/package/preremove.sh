#!/bin/sh
# Ends the service when the package goes, and not when another version takes its place. Slot, publication and
# control schema stay in Postgres: tidemark teardown drops them, and is to be called before.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now tidemark.service || true
		systemctl list-units --all --plain --no-legend 'tidemark-apply@*.service' | while read -r unit _; do
			systemctl disable --now "$unit" || true
		done
	fi
	;;
esac
