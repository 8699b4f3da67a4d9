# libjsondb for programs in C, C++, Go, Node and others, on Linux and macOS:
#
#   make                        builds it
#   make install PREFIX=DIR     header, shared and static library, pkg-config file; DESTDIR=DIR is put before all of it
#   make uninstall PREFIX=DIR
#
# libjsondb/docs/bindings.md says how to build against what is installed. Python needs none of this: see README.md.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
DESTDIR ?=

CARGO ?= cargo
OBJCOPY ?= objcopy
INSTALL ?= install

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml)
MAJOR := $(firstword $(subst ., ,$(VERSION)))

ifeq ($(shell uname),Darwin)
NAME := libjsondb.dylib
INSTALLED := libjsondb.$(VERSION).dylib
LINKED := libjsondb.$(MAJOR).dylib
else
NAME := libjsondb.so
INSTALLED := libjsondb.so.$(VERSION)
LINKED := libjsondb.so.$(MAJOR)
endif

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
BUILT := $(RELEASE)/c
SOURCES := $(shell find libjsondb -name Cargo.toml -o -name build.rs -o -path '*/src/*.rs') Cargo.toml Cargo.lock

libraries := $(DESTDIR)$(LIBDIR)
headers := $(DESTDIR)$(INCLUDEDIR)
packages := $(libraries)/pkgconfig

.PHONY: all install uninstall

all: $(RELEASE)/$(NAME) $(BUILT)/libjsondb.a

# Cargo leaves alone what is up to date for it; the touch says so to make, which then installs without cargo (sudo has none).
$(RELEASE)/$(NAME): $(SOURCES)
	$(CARGO) build --release --locked --package jsondb
	@touch $@

# With an rlib asked for, too, the crates it depends on are those of the shared library, built once.
$(BUILT)/libjsondb.a: $(SOURCES) include/libjsondb.h scripts/api-functions | $(RELEASE)/$(NAME)
	@mkdir -p $(BUILT)
	$(CARGO) rustc --release --locked --package jsondb --lib --crate-type staticlib --crate-type rlib -- \
	    --print native-static-libs=$(abspath $(BUILT)/native-static-libs)
	@rm -f $@
ifeq ($(NAME),libjsondb.so)
# One object of what the functions of the header need, all else in it local: no symbol meets those of another Rust library.
	scripts/api-functions >$(BUILT)/functions
	$(LD) -r --gc-sections $$(sed 's/^/-u /' $(BUILT)/functions) $(RELEASE)/libjsondb.a -o $(BUILT)/libjsondb.o
	$(OBJCOPY) --keep-global-symbols=$(BUILT)/functions --strip-unneeded \
	    --remove-section=.llvmbc --remove-section=.llvmcmd $(BUILT)/libjsondb.o
	$(AR) rcs $@ $(BUILT)/libjsondb.o
	@rm $(BUILT)/libjsondb.o
else
	cp $(RELEASE)/libjsondb.a $@
endif

install: all
	$(INSTALL) -d "$(headers)" "$(packages)"
	$(INSTALL) -m 644 include/libjsondb.h "$(headers)"
	$(INSTALL) -m 755 $(RELEASE)/$(NAME) "$(libraries)/$(INSTALLED)"
	ln -sf $(INSTALLED) "$(libraries)/$(LINKED)"
	ln -sf $(LINKED) "$(libraries)/$(NAME)"
	$(INSTALL) -m 644 $(BUILT)/libjsondb.a "$(libraries)"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR:$(PREFIX)/%=$${prefix}/%)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR:$(PREFIX)/%=$${prefix}/%)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e "s|@NATIVE_STATIC_LIBS@|$$(cat $(BUILT)/native-static-libs)|" \
	    libjsondb/jsondb.pc.in >"$(packages)/jsondb.pc"

uninstall:
	rm -f "$(headers)/libjsondb.h" "$(packages)/jsondb.pc" "$(libraries)/libjsondb.a" \
	    "$(libraries)/$(NAME)" "$(libraries)/$(LINKED)" "$(libraries)/$(INSTALLED)"
