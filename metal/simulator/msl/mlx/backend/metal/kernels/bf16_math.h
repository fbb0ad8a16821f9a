// Stands for MLX's header of this name, whose bodies are compiler intrinsics: the simulator's own math covers bfloat.
#pragma once
