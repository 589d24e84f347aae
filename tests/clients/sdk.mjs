// The SDKs of both vendors, and the ai package's three providers, against a scripted server (script.jsonl).
// usage: node sdk.mjs http://127.0.0.1:PORT
import OpenAI from 'openai';
import Anthropic from '@anthropic-ai/sdk';
import { generateObject, generateText, stepCountIs, streamText, tool } from 'ai';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { z } from 'zod';

globalThis.AI_SDK_LOG_WARNINGS = false;
const base = process.argv[2];
const openai = new OpenAI({ baseURL: base + '/v1', apiKey: 'x', maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: base, apiKey: 'x', maxRetries: 0 });
let failed = 0, passed = 0;

async function test(name, fn) {
    try {
        await fn();
        passed++;
    } catch (e) {
        failed++;
        console.log(`FAILED ${name}: ${String(e.stack || e).slice(0, 800)}`);
    }
}
function equal(found, expected) {
    const a = JSON.stringify(found), b = JSON.stringify(expected);
    if (a !== b)
        throw new Error(`found ${a}, expected ${b}`);
}
function mostly_cached(cached, all) {
    if (!(cached / all > 0.9))
        throw new Error(`${cached} of ${all} tokens from memory: expected more than 90 %`);
}
const user = text => ({ role: 'user', content: text });
const weather = {
    name: 'get_weather', description: 'w',
    parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'number' } } },
};
const title = {
    type: 'object', properties: { title: { type: 'string' } }, required: ['title'], additionalProperties: false,
};

// A call that is long enough to be sent as it comes; script.jsonl has the same.
const story = {
    name: 'save', description: 's',
    parameters: { type: 'object', properties: { text: { type: 'string' }, size: { type: 'object' } } },
};
const saved = { text: 'Once <upon> a "time" & more,\nwörd after wörd. '.repeat(12), size: { words: [1, 2.5] } };

// ---- openai ----

await test('models', async () => {
    equal((await openai.models.list()).data[0].id, 'script');
    equal((await openai.models.retrieve('script')).id, 'script');
});
await test('chat', async () => {
    const r = await openai.chat.completions.create({ model: 'm', messages: [user('hi')] });
    equal(r.choices[0].message.content, 'Hello wörld!');
});
await test('chat: stream, tools, second turn', async () => {
    const common = { model: 'm', tools: [{ type: 'function', function: weather }], reasoning_effort: 'low' };
    const s = openai.chat.completions.stream({ ...common, messages: [user('weather?')] });
    const m = (await s.finalChatCompletion()).choices[0].message;
    equal(m.tool_calls[0].function.name, 'get_weather');
    const result = { role: 'tool', tool_call_id: m.tool_calls[0].id, content: 'sunny' };
    const r = await openai.chat.completions.create({ ...common, messages: [user('weather?'), m, result] });
    equal(r.choices[0].message.content, 'It is sunny.');
    mostly_cached(r.usage.prompt_tokens_details.cached_tokens, r.usage.prompt_tokens);
});
await test('chat: a long call streams', async () => {
    const s = openai.chat.completions.stream({ model: 'm', tools: [{ type: 'function', function: story }], messages: [user('long story')] });
    let pieces = 0;
    s.on('tool_calls.function.arguments.delta', () => pieces++);
    const m = (await s.finalChatCompletion()).choices[0].message;
    equal(JSON.parse(m.tool_calls[0].function.arguments), saved);
    equal(pieces > 50, true);
});
await test('chat: error', async () => {
    const e = await openai.chat.completions.create({ model: 'm', messages: [user('hi')], temperature: 9 })
        .catch(error => error);
    equal([e.status, e.param], [400, 'temperature']);
});
await test('chat: cancelled in prefill', async () => {
    const c = new AbortController();
    const s = await openai.chat.completions.create({ model: 'm', messages: [user('slowly please')], stream: true }, { signal: c.signal });
    setTimeout(() => c.abort(), 100);
    try {
        for await (const part of s)
            equal(part.choices[0].delta.content || '', '');
    } catch (e) {
        equal(e instanceof OpenAI.APIUserAbortError, true);
    }
    for (let left = 1; left > 0;)
        left = (await (await fetch(base + '/slots')).json()).length;
});
await test('chat: a format', async () => {
    const r = await openai.chat.completions.parse({
        model: 'm', messages: [user('give json')],
        response_format: { type: 'json_schema', json_schema: { name: 'x', strict: true, schema: title } },
    });
    equal(r.choices[0].message.parsed, { title: 'T' });
});
await test('responses', async () => {
    const r = await openai.responses.create({ model: 'm', input: 'hi', reasoning: { effort: 'low' } });
    equal(r.output_text, 'Hello wörld!');
    equal((await openai.responses.retrieve(r.id)).id, r.id);
    equal((await openai.responses.inputTokens.count({ model: 'm', input: 'hi' })).input_tokens > 5, true);
});
await test('responses: stream, tools', async () => {
    const s = openai.responses.stream({ model: 'm', input: 'weather?', tools: [{ type: 'function', strict: false, ...weather }] });
    equal((await s.finalResponse()).output.at(-1).type, 'function_call');
});
await test('responses: a long call streams', async () => {
    const s = openai.responses.stream({ model: 'm', input: 'long story', tools: [{ type: 'function', strict: false, ...story }] });
    let pieces = '', n = 0;
    s.on('response.function_call_arguments.delta', e => { pieces += e.delta; n++; });
    const call = (await s.finalResponse()).output.at(-1);
    equal([pieces, JSON.parse(call.arguments)], [call.arguments, saved]);
    equal(n > 50, true);
});
await test('completions', async () => {
    const r = await openai.completions.create({ model: 'm', prompt: 'x', max_tokens: 3 });
    equal(r.choices[0].text, 'Hello wörld!');
});

// ---- anthropic ----

await test('messages', async () => {
    const r = await anthropic.messages.create({ model: 'm', max_tokens: 100, messages: [user('hi')] });
    equal(r.content[0].text, 'Hello wörld!');
    equal((await anthropic.messages.countTokens({ model: 'm', messages: [user('hi')] })).input_tokens > 5, true);
});
await test('messages: stream, tools, second turn', async () => {
    const common = {
        model: 'm', max_tokens: 4000, thinking: { type: 'enabled', budget_tokens: 1024 },
        tools: [{ name: 'get_weather', input_schema: weather.parameters }],
    };
    const m = await anthropic.messages.stream({ ...common, messages: [user('weather?')] }).finalMessage();
    equal([m.stop_reason, ...m.content.map(c => c.type)], ['tool_use', 'thinking', 'text', 'tool_use']);
    const result = { type: 'tool_result', tool_use_id: m.content[2].id, content: 'sunny' };
    const r = await anthropic.messages.create({
        ...common, messages: [user('weather?'), { role: 'assistant', content: m.content }, user([result])],
    });
    equal(r.content.at(-1).text, 'It is sunny.');
    mostly_cached(r.usage.cache_read_input_tokens, r.usage.cache_read_input_tokens + r.usage.input_tokens);
});
await test('messages: a long call streams', async () => {
    const s = anthropic.messages.stream({
        model: 'm', max_tokens: 4000, tools: [{ name: 'save', input_schema: story.parameters }], messages: [user('long story')],
    });
    let pieces = 0;
    s.on('inputJson', () => pieces++);
    equal((await s.finalMessage()).content.at(-1).input, saved);
    equal(pieces > 50, true);
});
await test('messages: error', async () => {
    const e = await anthropic.messages.create({ model: 'm', max_tokens: 5, messages: [] }).catch(error => error);
    equal([e.status, e.error.error.type], [400, 'invalid_request_error']);
});

// ---- ai ----

const settings = { baseURL: base + '/v1', apiKey: 'x' };
const providers = {
    compatible: createOpenAICompatible({ name: 'local', ...settings })('m'),
    responses: createOpenAI(settings)('m'),
    chat: createOpenAI(settings).chat('m'),
    anthropic: createAnthropic(settings)('m'),
};
for (const [name, model] of Object.entries(providers)) {
    const common = { model, maxRetries: 0, maxOutputTokens: 1000 };
    await test(`ai ${name}: text`, async () => {
        equal((await generateText({ ...common, prompt: 'hi' })).text, 'Hello wörld!');
    });
    await test(`ai ${name}: stream, a loop of tools`, async () => {
        const get_weather = tool({
            description: 'w', inputSchema: z.object({ city: z.string(), days: z.number() }), execute: async () => 'sunny',
        });
        const r = streamText({ ...common, prompt: 'weather?', tools: { get_weather }, stopWhen: stepCountIs(3) });
        let text = '';
        for await (const piece of r.textStream)
            text += piece;
        equal(text.endsWith('It is sunny.'), true);
    });
    await test(`ai ${name}: a long call streams`, async () => {
        let got, pieces = 0;
        const save = tool({
            description: 's', inputSchema: z.object({ text: z.string(), size: z.any() }), execute: async input => { got = input; return 'sunny'; },
        });
        const r = streamText({ ...common, maxOutputTokens: 4000, prompt: 'long story', tools: { save }, stopWhen: stepCountIs(3) });
        for await (const part of r.fullStream)
            pieces += part.type === 'tool-input-delta';
        equal(got, saved);
        equal(pieces > 50, true);
    });
    await test(`ai ${name}: an object`, async () => {
        const r = await generateObject({ ...common, prompt: 'give json', schema: z.object({ title: z.string() }) });
        equal(r.object, { title: 'T' });
    });
}
console.log(`sdk: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
