// Stands for MLX's header of this name, whose log has nowhere to go.
#pragma once
