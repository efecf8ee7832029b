# Builds localhost/tidemark:test by the Dockerfile, from the stand-in for golang:1.26 that busybox, this
# machine's Go and its certificates make. CONTAINERS_STORAGE_CONF says where images are kept.
set -eu
go=$(go env GOROOT)
c=$(buildah from scratch)
m=$(buildah mount "$c")
mkdir -p "$m/bin" "$m/usr/local" "$m/tmp" "$m/etc/ssl/certs" "$m/root" "$m/go"
chmod 1777 "$m/tmp"
cp "$BUSYBOX" "$m/bin/busybox"
"$m/bin/busybox" --install "$m/bin"
cp -a "$go" "$m/usr/local/go"
cp -L /etc/ssl/certs/ca-certificates.crt "$m/etc/ssl/certs/"
echo root:x:0:0::/root:/bin/sh >"$m/etc/passwd"
buildah config --env PATH=/usr/local/go/bin:/bin --env GOPATH=/go --env HOME=/root --env GOTOOLCHAIN=local "$c"
buildah umount "$c" >/dev/null
buildah commit -q "$c" docker.io/library/golang:1.26
# Modules and what was compiled of them are this machine's: nothing is fetched.
buildah bud --isolation chroot --pull-never --platform "linux/$(go env GOARCH)" \
	-v "$(go env GOMODCACHE):/go/pkg/mod" -v "$(go env GOCACHE):/root/.cache/go-build" \
	-t localhost/tidemark:test -f Dockerfile ..
