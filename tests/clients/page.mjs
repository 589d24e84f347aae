// The page of "/" in headless Chromium, against a scripted server (page.jsonl).
// usage: node page.mjs http://127.0.0.1:PORT CHROMIUM FOLDER_FOR_SCREENSHOTS
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [base, executablePath, shots] = process.argv.slice(2);
const profile = mkdtempSync(join(tmpdir(), 'sluice-page-'));
const context = await chromium.launchPersistentContext(profile, {
    executablePath, headless: true, viewport: { width: 900, height: 760 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync'],
});
const page = context.pages()[0] || await context.newPage();
const requests = [], complaints = [];
page.on('request', r => requests.push(r.url()));
page.on('pageerror', e => complaints.push(String(e)));
page.on('console', m => m.type() === 'error' && complaints.push(m.text()));
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
const shoot = name => page.screenshot({ path: join(shots, name + '.png') });
const text = selector => page.locator(selector).last().innerText();
async function say(words) {
    await page.fill('#text', words);
    await page.press('#text', 'Enter');
}
// The answer is whole when the button says Send again.
const whole = () => page.waitForFunction(() => document.getElementById('go').textContent === 'Send');

await test('the page', async () => {
    await page.goto(base + '/');
    await page.waitForFunction(() => document.getElementById('model').textContent.includes('context'));
    equal(await page.title(), 'Sluice');
    equal((await text('#state')).includes('for conversations'), true);
    await shoot('empty');
});
await test('an answer streams', async () => {
    await say('tell me slowly');
    // Seen in part before it is whole.
    await page.waitForFunction(() => {
        const answer = document.querySelector('.answer');
        return answer && answer.innerText.length > 10 && document.getElementById('go').textContent === 'Stop';
    });
    const part = await text('.answer');
    await shoot('streaming');
    await whole();
    const all = await text('.answer');
    equal([all.startsWith(part.slice(0, 10)), all.length > part.length, all.includes('wörld')], [true, true, true]);
    equal(await text('.answer pre'), 'int main(void)');
});
await test('the plot', async () => {
    const points = (await page.getAttribute('#plot', 'points')).split(' ');
    equal(points.length > 10, true);
    const box = await page.locator('#plot').boundingBox();
    equal([box.width > 200, box.height > 5], [true, true]);
    equal(/^[0-9.]+ tokens\/s$/.test(await text('#now')), true);
    equal(/^[0-9]+ tokens read, .* answered; /.test(await text('#state')), true);
});
await test('thinking is folded away', async () => {
    await page.click('#more summary');
    await page.check('#think');
    await page.click('#more summary');
    await say('think about it');
    await whole();
    equal(await page.locator('.thinking p').last().isVisible(), false);
    await page.locator('.thinking summary').last().click();
    equal(await text('.thinking p'), 'let me think');
    await shoot('thinking');
});
await test('a call is shown, and its result sent', async () => {
    await page.click('#more summary');
    await page.fill('#tools', '[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]');
    await page.click('#more summary');
    await say('weather?');
    await whole();
    equal(await text('.call b'), 'get_weather');
    equal(JSON.parse(await text('.call pre')), { city: 'Paris', days: 2 });
    equal(await page.getAttribute('#text', 'placeholder'), 'Result of get_weather');
    await say('sunny');
    await whole();
    equal((await text('.answer')).trim(), 'It is sunny.');
    await shoot('call');
});
await test('a dark screen', async () => {
    await page.emulateMedia({ colorScheme: 'dark' });
    equal(await page.evaluate(() => getComputedStyle(document.body).color), 'rgb(255, 255, 255)');
    await shoot('dark');
    await page.emulateMedia({ colorScheme: 'light' });
});
await test('a narrow screen', async () => {
    await page.setViewportSize({ width: 400, height: 760 });
    equal(await page.evaluate(() => [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length), 0);
    await shoot('narrow');
    await page.setViewportSize({ width: 900, height: 760 });
});
await test('stop, and a new chat', async () => {
    await say('never ending');
    await page.waitForFunction(() => document.getElementById('go').textContent === 'Stop');
    await page.click('#go');
    await whole();
    for (let left = 1; left > 0;)
        left = (await (await fetch(base + '/slots')).json()).length;
    await page.click('#fresh');
    equal([await page.locator('.turn').count(), await page.locator('#hint').isVisible()], [0, true]);
});
await test('an error', async () => {
    await say('break');
    await whole();
    equal(await text('.error'), 'the disk is gone');
});
await test('no requests to anywhere else, no complaints', async () => {
    equal(requests.filter(url => !url.startsWith(base + '/')), []);
    equal(complaints, []);
});
await context.close();
rmSync(profile, { recursive: true, force: true });
console.log(`page: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
