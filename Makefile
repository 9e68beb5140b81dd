# The front door, thin: everything real is in Meson. `make help` lists the targets.
BUILD ?= build
CC_CLANG ?= clang
CXX_CLANG ?= clang++
export MPQ_DATA ?= $(abspath $(CURDIR)/../shared/data)

.PHONY: help all server wheel overload demo demo-resnet test check check-tokenizer check-encoders text-accuracy clang asan tsan lint study-fashion study-cifar study-additivity study-times study-resnet50 study-texts bench bench-peers bench-peers-bert bench-peers-resnet101 roofline fuzz install clean deps cuda-networks gpu-check cuda-model scale-out deb check-packages
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps:
	@scripts/install_deps.sh build

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD)

all: $(BUILD)/build.ninja ## build everything into build/
	ninja -C $(BUILD)

server: ## build everything and mpqserve, with the packages that it and its tests need
	@scripts/install_deps.sh server
	@[ -f $(BUILD)/build.ninja ] && meson setup --reconfigure $(BUILD) -Dserver=enabled || meson setup $(BUILD) -Dserver=enabled
	ninja -C $(BUILD)

wheel: all ## the Python package with the library inside, installed into an empty environment and tested
	@integrations/python/tests/test_wheel.sh $(BUILD)

overload: server ## a minute of twice what the server can answer, over HTTP and over gRPC
	@for protocol in http grpc; do \
	  integrations/server/tests/run_overload.sh $(CURDIR) $(BUILD)/integrations/server/mpqserve $(BUILD)/runtime/libmpq.so \
	    $(CURDIR)/$(BUILD)/tests/runtime/tiny.mpq - --seconds 60 --protocol $$protocol || exit 1; done

scale-out: server ## HAProxy, nginx, KServe, Triton, Ray: installs them and tests what scales out on them
	@scripts/install_deps.sh scale-out
	@MPQ_SCALE_OUT=1 tests/run.sh $(BUILD) --suite scale-out

deb: ## the Debian packages, into build-deb/packages; lintian must find nothing
	@scripts/install_deps.sh packages
	@scripts/packages.sh

check-packages: deb wheel ## install packages and wheel into a bare Debian 12, and run models there (root)
	@scripts/check_packages.sh $(BUILD)

demo: all ## convert a sentence encoder to mixed precision, compare sentences, size, accuracy, speed
	@scripts/demo.sh $(BUILD)

demo-resnet: all ## convert a real 4-bit ResNet-50, name what is in real images, time it
	@scripts/demo_resnet.sh $(BUILD)

test: all ## build and run all tests; the last line counts them
	@tests/run.sh $(BUILD)

clang: | deps-lint ## the same tests, built by clang
	@[ -f build-clang/build.ninja ] || CC=$(CC_CLANG) CXX=$(CXX_CLANG) meson setup build-clang -Dwerror=true
	ninja -C build-clang
	@tests/run.sh build-clang

asan: | deps-lint ## tests under clang's address and undefined-behaviour sanitizers
	@[ -f build-asan/build.ninja ] || CC=$(CC_CLANG) CXX=$(CXX_CLANG) meson setup build-asan \
	  --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build-asan
	@UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 tests/run.sh build-asan

tsan: | deps-lint ## session and thread-pool tests under the thread sanitizer
	@[ -f build-tsan/build.ninja ] || CC=$(CC_CLANG) CXX=$(CXX_CLANG) meson setup build-tsan \
	  --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dconverter=disabled -Dtools=disabled
	ninja -C build-tsan
	@tests/run.sh build-tsan --suite runtime

lint: | deps-lint ## formatting, clang-tidy, repository rules
	@scripts/lint.sh

check: test clang asan tsan lint ## everything a release must pass

bench: all ## kernel benchmarks (Google Benchmark)
	$(BUILD)/bench/bench_kernels --benchmark_min_time=0.1

bench-peers: all ## ResNet-50 beside OpenVINO and ONNX Runtime int8, interleaved
	@scripts/install_deps.sh peers
	@bench/peers.sh $(BUILD)

bench-peers-resnet101: all ## the same for ResNet-101
	@scripts/install_deps.sh peers
	@bench/peers.sh $(BUILD) resnet101

bench-peers-bert: all ## the same for BERT-base: 128 and 384 tokens, batch 1 and 8
	@scripts/install_deps.sh peers
	@bench/peers.sh $(BUILD) bert-base --tokens 128,384 --batch 1,8 --rounds 10

study-resnet50: all ## ResNet-50 at 4 bits and mixed, trained on images without labels: hours of two cores
	@scripts/study_resnet50.sh $(BUILD)

study-texts: all ## a sentence encoder at 4 bits and mixed, learned from itself on texts without labels
	@scripts/study_texts.sh $(BUILD)

roofline: all ## where the time of ResNet-50 and BERT-base goes: every layer beside its floor
	@bench/roofline.sh $(BUILD)
	@scripts/install_deps.sh peers
	@bench/roofline.sh $(BUILD) bert-base

cuda-networks: all ## ResNet-50 and BERT-base on the CUDA kernels without a GPU, every tensor against the CPU's
	@scripts/install_deps.sh peers
	@scripts/cuda_networks.sh $(BUILD)

gpu-check: all ## all that there is to check on a machine with an NVIDIA GPU; error 77 without one
	@scripts/gpu_check.sh $(BUILD)

cuda-model: all ## how fast the CUDA kernels ought to be: a model of GPUs that are not here
	@tests/cuda/model/cuda_model.sh $(BUILD)

check-tokenizer: all ## tokens of all texts and of fuzzed ones beside Hugging Face's tokenizers
	@scripts/check_tokenizer.sh $(BUILD)

check-encoders: all ## encoders exported to ONNX beside ONNX Runtime, float, by both exporters of PyTorch
	@scripts/check_encoders.sh $(BUILD)

text-accuracy: all ## what precision costs MiniLM and MPNet: STS-B and a probe on SST-2
	@scripts/text_accuracy.sh $(BUILD)

# SIZE=medium or quick: fewer images, steps and budgets. SEEDS=1,2,3. All resume where they were stopped.
STUDY_FLAGS = --build $(BUILD) $(if $(SIZE),--size $(SIZE)) $(if $(SEEDS),--seeds $(SEEDS))
study-fashion: all ## selectors compared on Fashion-MNIST: float, all 4 bit, mixes at every budget (hours; SIZE=medium)
	@scripts/study.py fashion $(STUDY_FLAGS)

study-cifar: all ## the same for ResNet-20 on CIFAR-10
	@scripts/study.py cifar $(STUDY_FLAGS)

study-additivity: all ## do the losses of lowered groups add up?
	@scripts/study.py additivity $(STUDY_FLAGS)

study-times: all ## how fast the mixes of study-cifar run, and budgets in measured time
	@scripts/study.py times $(STUDY_FLAGS)

fuzz: | deps-lint ## a minute of fuzzing of each target; longer with SECONDS=3600
	@[ -f build-fuzz/build.ninja ] || CC=$(CC_CLANG) CXX=$(CXX_CLANG) meson setup build-fuzz -Dfuzz=true \
	  --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build-fuzz
	@tests/fuzz/run.sh build-fuzz $${SECONDS:-60}

install: all ## install the library, header, tools and pkg-config file (DESTDIR, PREFIX as usual)
	meson install -C $(BUILD)

deps-lint:
	@scripts/install_deps.sh lint
.PHONY: deps-lint

clean: ## remove the build folders
	rm -rf build build-clang build-asan build-tsan build-fuzz
