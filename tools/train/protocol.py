"""The chat protocol (section 7 of the model specification) as pieces of (text, is target)."""
import json

BOS, EOS, USER, ASSISTANT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"
THINK, END_THINK, M = "<think>", "</think>", "｜DSML｜"

SPECIAL = [BOS, EOS, "<｜▁pad▁｜>"]
ADDED = ["<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>", USER, ASSISTANT, "<|EOT|>", THINK, END_THINK, M, "<｜latest_reminder｜>",
         "<｜action｜>", "<｜query｜>", "<｜authority｜>", "<｜domain｜>", "<｜title｜>", "<｜read_url｜>", "<｜search｜>", "<｜answer｜>"]

TOOLS_HEAD = f"""## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<{M}tool_calls>" block like the following:

<{M}tool_calls>
<{M}invoke name="$TOOL_NAME">
<{M}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{M}parameter>
...
</{M}invoke>
<{M}invoke name="$TOOL_NAME2">
...
</{M}invoke>
</{M}tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by {THINK}), you MUST output your complete reasoning inside {THINK}...{END_THINK} BEFORE any tool calls or final response.

Otherwise, output directly after {END_THINK} with tool calls or final response.

### Available Tool Schemas

"""
TOOLS_TAIL = "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"


def tools_text(tools):
    return TOOLS_HEAD + "\n".join(json.dumps(t, ensure_ascii=False) for t in tools) + TOOLS_TAIL


def calls_text(calls):
    out = []
    for name, args in calls:
        params = [f'<{M}parameter name="{k}" string="{"true" if isinstance(v, str) else "false"}">'
                  f'{v if isinstance(v, str) else json.dumps(v)}</{M}parameter>' for k, v in args.items()]
        out.append(f'<{M}invoke name="{name}">\n' + "\n".join(params) + f"\n</{M}invoke>")
    return f"\n\n<{M}tool_calls>\n" + "\n".join(out) + f"\n</{M}tool_calls>"


def render(msgs, tools, thinking):
    """msgs: ("system", text), ("user", text), ("tool", text), ("assistant", reasoning or None, text[, calls])."""
    pieces = [(BOS, False)]
    last_user = max(i for i, m in enumerate(msgs) if m[0] == "user")
    system = [m for m in msgs if m[0] == "system"]
    if system or tools:
        text = system[0][1] if system else ""
        pieces.append((text + ("\n\n" + tools_text(tools) if tools else ""), False))
    open_tools = False
    for i, m in enumerate(msgs):
        if m[0] == "user":
            pieces.append((USER + m[1], False))
        elif m[0] == "tool":
            pieces.append((("\n\n" if open_tools else USER) + f"<tool_result>{m[1]}</tool_result>", False))
            open_tools = True
        elif m[0] == "assistant":
            open_tools = False
            keep = thinking and (tools or i > last_user)
            if keep:
                pieces += [(ASSISTANT + THINK, False), ((m[1] or "") + END_THINK, True)]
            else:
                pieces.append((ASSISTANT + END_THINK, False))
            pieces.append((m[2] + (calls_text(m[3]) if len(m) > 3 else "") + EOS, True))
    return pieces
