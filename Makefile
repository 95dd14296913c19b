# Each target is a command you could type yourself. The minutes beside a
# target are its budget on two cores with warm caches.

GO         ?= go
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS    := -s -w -X main.version=$(VERSION)
BUILDFLAGS := -trimpath -ldflags '$(LDFLAGS)'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
export CGO_ENABLED ?= 0

.DEFAULT_GOAL := build
.PHONY: help build test race lint cross fuzz e2e e2e-two e2e-ca e2e-java e2e-windows e2e-linux e2e-keys key-devices build-pkcs11 bench demo dist clean judges container wine windows-tools

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/certconnector and bin/certlab (2 min from an empty cache)
	$(GO) build $(BUILDFLAGS) -o bin/ ./cmd/...

build-pkcs11: ## build bin/certconnector-pkcs11, which loads modules of HSMs (needs a C compiler)
	CGO_ENABLED=1 $(GO) build -tags pkcs11 $(BUILDFLAGS) -o bin/certconnector-pkcs11 ./cmd/certconnector

test: judges ## run every unit and contract test (6 min)
	$(GO) test ./...

# All our code is watched, but not SQLite: C that was translated, with locks of
# its own, at which the race detector looks five times longer than at the rest.
race: judges ## run them again under the race detector (10 min; needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -short '-gcflags=modernc.org/...=-race=false' ./...

lint: judges ## gofmt, go vet, staticcheck, and builds for the other systems (5 min)
	@test -z "$$(gofmt -l .)" || { echo "gofmt these files:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags failpoint ./...
	$(GO) vet -tags e2e ./...
	$(GO) vet -tags e2ewindows ./policymodule/ndesdll/... ./installer/windows/... ./ca/adcs
	$(GO) vet -tags e2eca ./ca/...
	$(GO) vet -tags e2elinux ./installer/linux/...
	CGO_ENABLED=1 $(GO) vet -tags 'pkcs11 e2ekeys' ./internal/keys/... ./agent/identity/... ./cmd/certconnector
	CGO_ENABLED=1 $(GO) vet -tags 'pkcs11 e2ekeys e2e' ./cmd/certlab/e2e
	$(GO) run $(STATICCHECK) ./...
	$(GO) run $(STATICCHECK) -tags e2e ./cmd/...
	$(GO) run $(STATICCHECK) -tags e2ewindows ./policymodule/ndesdll/... ./installer/windows/... ./ca/adcs
	$(GO) run $(STATICCHECK) -tags e2eca ./ca/...
	CGO_ENABLED=1 $(GO) run $(STATICCHECK) -tags pkcs11,e2ekeys ./internal/keys/... ./agent/identity/...
	CGO_ENABLED=1 $(GO) run $(STATICCHECK) -tags pkcs11,e2ekeys,e2e ./cmd/certlab/e2e
	$(GO) run $(STATICCHECK) -tags e2elinux ./installer/linux/...
	$(MAKE) --no-print-directory cross

cross: ## build for Windows and for Linux on ARM
	GOOS=windows GOARCH=amd64 $(GO) build ./...
	GOOS=linux GOARCH=arm64 $(GO) build ./...

FUZZTIME ?= 10s
fuzz: ## run each fuzz target for FUZZTIME (10s)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x $$pkg || exit 1; \
	  done; \
	done

# Tests have openssl judge what is signed and sealed, and gcc with its
# sanitizers the C of the policy module for NDES; a bare Debian lacks both.
judges:
	@missing=; command -v openssl >/dev/null || missing="openssl"; \
	command -v gcc >/dev/null && [ -e /usr/include/stdlib.h ] || missing="$$missing gcc libc6-dev"; \
	[ -z "$$missing" ] || { apt-get -o DPkg::Lock::Timeout=300 update && \
	  apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $$missing; }

e2e: build ## drive the built program with certmonger, strongSwan, openssl and kill -9 (12 min)
	$(GO) test -tags e2e -count 1 -timeout 28m -skip '^TestADCS' ./cmd/certlab/e2e/...

# Left out: what has two connectors in e2e too, and where the second would have
# no part (jobs of a queue, the proxy in front).
e2e-two: build ## the same with two connectors: SCEP and CA here, Intune's credential there (7 min)
	E2E_CONNECTORS=two $(GO) test -tags e2e -count 1 -timeout 20m \
	-skip '^Test(ADCS|RandomKillsOfTwo|IssuanceDeathAtEachStep|RandomKillsOfIssuance|RefusedResultIsRevoked|Nginx)' ./cmd/certlab/e2e/...

# What a Windows needs that is none.
wine: windows-tools
	@[ -x /usr/lib/wine/wine64 ] && command -v x86_64-w64-mingw32-gcc >/dev/null && command -v openssl >/dev/null && \
	command -v ntlm_auth >/dev/null && [ -x /usr/sbin/krb5kdc ] && [ -x /usr/sbin/kadmin.local ] && command -v kinit >/dev/null || \
	{ apt-get -o DPkg::Lock::Timeout=300 update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
	wine64 gcc-mingw-w64-x86-64 openssl winbind krb5-kdc krb5-admin-server krb5-user; } || \
	{ echo "e2e-windows needs wine64, gcc-mingw-w64-x86-64, openssl, winbind (ntlm_auth), krb5-kdc, krb5-admin-server and krb5-user, and they cannot be installed here"; exit 1; }

e2e-windows: build wine ## install the MSI under Wine and drive the service there, run the Windows code's tests, drive the policy module for NDES (6 min)
	$(GO) test -tags e2ewindows -count 1 -p 1 -timeout 15m ./policymodule/ndesdll/... ./installer/windows/...
	$(GO) test -tags e2ewindows -count 1 -timeout 5m -run Wine ./ca/adcs/

# What a real systemd in a container needs, and those who judge packages.
container:
	@command -v systemd-nspawn >/dev/null && command -v mmdebstrap >/dev/null && command -v lintian >/dev/null && \
	command -v rpm >/dev/null && command -v pgrep >/dev/null && command -v curl >/dev/null || \
	{ apt-get -o DPkg::Lock::Timeout=300 update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
	systemd-container mmdebstrap lintian rpm procps curl; } || \
	{ echo "e2e-linux needs systemd-nspawn, mmdebstrap, lintian, rpm, pgrep and curl, and they cannot be installed here"; exit 1; }

e2e-linux: build container ## install the packages on a real systemd and drive the service there (6 min; needs root)
	$(GO) test -tags e2elinux -count 1 -timeout 7m -v ./installer/linux/e2e/

# What keeps keys, simulated: a TPM 2.0 and a hardware security module; and
# openssl's provider for TPMs, which judges. The build with PKCS #11 needs gcc.
key-devices: judges
	@command -v swtpm >/dev/null && command -v softhsm2-util >/dev/null && command -v certmonger >/dev/null && \
	ls /usr/lib*/*/ossl-modules/tpm2.so >/dev/null 2>&1 || \
	{ apt-get -o DPkg::Lock::Timeout=300 update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
	swtpm swtpm-tools softhsm2 tpm2-openssl certmonger; } || \
	{ echo "e2e-keys needs swtpm, softhsm2, tpm2-openssl and certmonger, and they cannot be installed here"; exit 1; }

e2e-keys: key-devices ## keys in a TPM (swtpm) and in an HSM (SoftHSM): the suite, and devices that enrol through them (4 min)
	CGO_ENABLED=1 $(GO) test -tags 'e2ekeys pkcs11' -count 1 -timeout 3m ./internal/keys/
	$(GO) test -tags e2ekeys -count 1 -timeout 2m -run TPM ./agent/identity/entra/
	CGO_ENABLED=1 $(GO) test -tags 'e2e e2ekeys pkcs11' -count 1 -timeout 5m -run '^TestRAKeys' ./cmd/certlab/e2e/

e2e-ca: build ## judge the bridges to a Microsoft CA: certmonger, MIT Kerberos, impacket, curl, tshark (6 min)
	$(GO) test -tags e2eca -count 1 -timeout 15m ./ca/...
	$(GO) test -tags e2e -count 1 -timeout 15m -run '^TestADCS' ./cmd/certlab/e2e/...

e2e-java: build ## drive the built program with jscep from Maven Central
	cmd/certlab/e2e/java/run bin/certconnector

bench: build ## load the built program and print its cost against the floor
	bin/certlab bench --program bin/certconnector

demo: build ## enrol one device of each platform, break everything once, show the evidence (2 min)
	bin/certlab demo --once --program bin/certconnector

# What makes and signs packages for Windows. Without it, dist says what it did
# not make.
windows-tools:
	@command -v wixl >/dev/null && command -v msibuild >/dev/null && command -v faketime >/dev/null && command -v osslsigncode >/dev/null || \
	{ apt-get -o DPkg::Lock::Timeout=300 update && apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends \
	wixl msitools faketime osslsigncode; } || echo "wixl, msitools, faketime and osslsigncode cannot be installed here"

dist: windows-tools ## build packages, archives, bills of materials and checksums into dist/ (3 min); SIGN_CERT= and SIGN_KEY= sign those for Windows
	$(GO) run ./installer/release --version '$(VERSION)' --epoch "$$(git log -1 --format=%ct)" --out dist \
	--sign-cert '$(SIGN_CERT)' --sign-key '$(SIGN_KEY)' --sign-timestamp '$(SIGN_TIMESTAMP)' --sign-options '$(SIGN_OPTIONS)'

clean: ## remove what the other targets made
	rm -rf bin dist coverage.out
