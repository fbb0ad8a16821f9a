"""Chat templates of models whose makers publish none: a program in their folder writes conversations instead.

Ours write the same, by the model's type. A template in a folder replaces them. The words about tools are the model's
own: it was trained on them.
"""

from collections.abc import Mapping

# DeepSeek V3.2: encoding/encoding_dsv32.py in its folder, under the MIT licence, for messages of people, the system,
# the model and tools. It thinks unless it is told not to.
_DEEPSEEK_V32 = """\
{%- set thinks = enable_thinking is not defined or enable_thinking -%}
{%- set ns = namespace(asked=-1, told=false) -%}
{%- for m in messages -%}
  {%- if m.role == 'user' %}{% set ns.asked = loop.index0 %}{% endif -%}
{%- endfor -%}
{%- macro about_tools() -%}
{{ '\\n\\n' }}## Tools

You have access to a set of tools you can use to answer the user's question.
You can invoke functions by writing a "<｜DSML｜function_calls>" block like the following as part of your reply to \
the user:
<｜DSML｜function_calls>
<｜DSML｜invoke name="$FUNCTION_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$FUNCTION_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜function_calls>

String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should \
use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types \
(numbers, booleans, arrays, objects).

If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. \
Here is an example:

<｜DSML｜function_calls>
...
</｜DSML｜function_calls>

<function_results>
...
</function_results>

<think>...thinking about results</think>

Here are the functions available in JSONSchema format:
<functions>
{% for tool in tools -%}
{{ tool.function | tojson }}{{ '\\n' }}
{%- endfor -%}
</functions>
{{ '' }}
{%- endmacro -%}
{%- macro calls(made) -%}
{{ '\\n\\n<｜DSML｜function_calls>\\n' }}
{%- for call in made -%}
{{ '<｜DSML｜invoke name="' ~ call.function.name ~ '">\\n' }}
{%- for name, value in call.function.arguments.items() -%}
{{ '<｜DSML｜parameter name="' ~ name ~ '" string="' ~ ('true' if value is string else 'false') ~ '">' }}
{{- value if value is string else value | tojson }}{{ '</｜DSML｜parameter>' }}{{ '\\n' if not loop.last }}
{%- endfor -%}
{{ '\\n</｜DSML｜invoke>\\n' }}
{%- endfor -%}
{{ '</｜DSML｜function_calls>' }}
{%- endmacro -%}
{{ '<｜begin▁of▁sentence｜>' }}
{%- if tools and messages[0].role != 'system' -%}{{ about_tools() }}{% set ns.told = true %}{%- endif -%}
{%- for m in messages -%}
  {%- set goes_on = not loop.last or add_generation_prompt -%}
  {%- set begins = '<think>' if thinks and loop.index0 >= ns.asked else '</think>' -%}
  {%- if m.role == 'system' -%}
    {{ m.content }}
    {%- if tools and not ns.told %}{{ about_tools() }}{% set ns.told = true %}{% endif -%}
  {%- elif m.role == 'user' -%}
    {{ '<｜User｜>' ~ m.content }}{{ '<｜Assistant｜>' ~ begins if goes_on }}
  {%- elif m.role == 'assistant' -%}
    {%- if thinks and loop.index0 > ns.asked %}{{ (m.reasoning_content or '') ~ '</think>' }}{% endif -%}
    {{ m.content or '' }}{{ calls(m.tool_calls) if m.tool_calls }}{{ '<｜end▁of▁sentence｜>' }}
  {%- elif m.role == 'tool' -%}
    {{ '\\n\\n<function_results>' if loop.previtem.role != 'tool' }}{{ '\\n<result>' ~ m.content ~ '</result>' }}
    {%- if loop.last or loop.nextitem.role != 'tool' -%}
      {{ '\\n</function_results>' }}{{ '\\n\\n' ~ begins if goes_on }}
    {%- endif -%}
  {%- else -%}
    {{ raise_exception('expected messages of system, user, assistant and tool, got ' ~ m.role) }}
  {%- endif -%}
{%- endfor -%}
"""
TEMPLATES: Mapping[str, str] = {"deepseek_v32": _DEEPSEEK_V32}
