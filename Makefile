# Names for what CMake and the scripts do; no logic here.
.PHONY: all test sim e2e tidy format check demo

all:
	cmake --preset asan
	cmake --build --preset asan

test: all
	ctest --preset asan -j2

# make sim SEEDS=1..100
SEEDS ?= 1..50
sim:
	cmake --preset release
	cmake --build --preset release
	build/release/tests/keelfs-sim --seeds $(SEEDS)

e2e:
	mount-scripts/check e2e

tidy:
	tests/tidy.sh

format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

check:
	mount-scripts/check

demo:
	mount-scripts/demo
