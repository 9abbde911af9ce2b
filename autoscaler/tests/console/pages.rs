//! The pages in headless Chromium: by keyboard alone, in both colour schemes, on narrow and wide
//! windows, with and without a script.

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    stage::{Stage, sample},
};

/// The least contrast of texts, by WCAG 2.2 level AA.
const CONTRAST_MIN: f64 = 4.5;

/// Texts with too little contrast to what is behind them.
const FAINT: &str = r"(() => {
  const channels = (color) => {
    const parts = color.match(/[\d.]+/g).map(Number);
    const scale = color.startsWith('color(') ? 1 : 255;
    return [...parts.slice(0, 3).map((one) => one / scale), parts[3] ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(channels(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1, 1]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest('script, noscript, option')) continue;
    texts += 1;
    const below = behind(element);
    const [a, b] = [over(channels(getComputedStyle(element).color), below), below].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < MIN) found.push(`${contrast.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return { texts, found };
})()";

const FOCUSED: &str = "document.activeElement.textContent.trim()";

async fn tab_to(browser: &mut Browser, text: &str) {
    let mut passed = Vec::new();
    for _ in 0..60 {
        browser.tab().await;
        let focused = browser.text(FOCUSED).await;
        if focused == text {
            return;
        }
        passed.push(focused);
    }
    panic!("Tab does not reach `{text}`: {passed:?}");
}

#[tokio::test]
async fn an_object_is_reached_and_left_by_keyboard_alone() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let stage = Stage::with_an_hour();
    let url = stage.serve().await;
    browser.look("light", 1280, 900).await;
    browser.open(&url).await;
    assert_eq!(
        browser.text("document.title").await,
        "PDAutoscalers – PDAutoscaler"
    );

    // The first stop skips the banner.
    browser.tab().await;
    assert_eq!(browser.text(FOCUSED).await, "Skip to content");
    let seen = "document.activeElement.getBoundingClientRect().top >= 0";
    assert_eq!(browser.value(seen).await, true);
    browser.press("Enter", 13, Some("\r")).await;
    assert_eq!(browser.text("document.activeElement.id").await, "main");

    tab_to(&mut browser, "llama-70b").await;
    let outline = "parseFloat(getComputedStyle(document.activeElement).outlineWidth)";
    let outline = browser.value(outline).await;
    assert!(outline.as_f64().unwrap() >= 2.0, "focus is seen: {outline}");
    browser.enter().await;
    assert_eq!(
        browser.text("document.title").await,
        "llama-70b in inference – PDAutoscaler"
    );
    assert_eq!(
        browser
            .text("document.querySelector('h1').textContent")
            .await,
        "llama-70b"
    );

    tab_to(&mut browser, "The same as a table").await;
    browser.press("Enter", 13, Some("\r")).await;
    let rows = "document.querySelector('details').open && document.querySelectorAll('.numbers tbody tr').length";
    assert_eq!(browser.value(rows).await, 12);

    browser.open(&url).await;
    browser
        .value("document.querySelector('input[type=search]').focus()")
        .await;
    browser
        .call("Input.insertText", json!({ "text": "mixtral" }))
        .await;
    browser.enter().await;
    let found =
        "[...document.querySelectorAll('.objects tbody a')].map((a) => a.textContent).join()";
    assert_eq!(browser.text(found).await, "mixtral-8x7b");
    assert!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );
}

#[tokio::test]
async fn every_text_has_contrast_in_both_schemes_and_nothing_is_wider_than_the_window() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let mut stage = Stage::with_an_hour();
    let mut broken = sample(1, "research", "broken");
    broken["spec"]["prefill"] = json!("none");
    stage.put(&broken);
    let url = stage.serve().await;
    let pages = [
        ("list", String::new()),
        ("object", "/pdautoscalers/inference/llama-70b".to_owned()),
        (
            "recommended",
            "/pdautoscalers/inference/deepseek-r1".to_owned(),
        ),
        ("broken", "/pdautoscalers/research/broken".to_owned()),
        ("missing", "/pdautoscalers/research/none".to_owned()),
        ("none-found", "/?q=none".to_owned()),
    ];
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        for (width, size) in [(1280, "wide"), (360, "narrow")] {
            browser.look(scheme, width, 900).await;
            for (name, path) in &pages {
                browser.open(&format!("{url}{path}")).await;
                let name = format!("{name}-{scheme}-{size}");
                browser.picture(&name).await;
                let faint = FAINT.replace("MIN", &CONTRAST_MIN.to_string());
                let faint: Value = browser.value(&faint).await;
                assert!(faint["texts"].as_u64().unwrap() > 5, "{name}: {faint}");
                assert_eq!(faint["found"], json!([]), "{name}");
                let over = "document.documentElement.scrollWidth - innerWidth";
                let over = browser.value(over).await;
                assert!(over.as_i64().unwrap() <= 0, "{name} is {over} px too wide");
            }
        }
        let background = "getComputedStyle(document.body).backgroundColor";
        backgrounds.push(browser.text(background).await);
    }
    assert_ne!(backgrounds[0], backgrounds[1], "two schemes");
}

/// A reader that hears the page gets the table, its heads and the charts in words, whatever the
/// width.
#[tokio::test]
async fn the_accessibility_tree_has_tables_headings_and_charts_in_words() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let stage = Stage::with_an_hour();
    let url = stage.serve().await;
    for width in [1280, 360] {
        browser.look("light", width, 900).await;
        browser.open(&url).await;
        let tree = browser.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().unwrap();
        let of = |role: &str| -> Vec<&str> {
            let of_role = |node: &&Value| node["role"]["value"] == role && node["ignored"] != true;
            let names = nodes.iter().filter(of_role);
            names
                .map(|node| node["name"]["value"].as_str().unwrap_or_default())
                .collect()
        };
        assert_eq!(of("table").len(), 1, "{width}");
        assert_eq!(of("rowheader").len(), 5, "{width}");
        assert_eq!(of("columnheader").len(), 7, "{width}");
        let images = [of("image"), of("img")].concat();
        let chart = |subject: &str| {
            let mut images = images.iter();
            images.any(|name| name.starts_with(subject) && name.contains("now "))
        };
        assert!(
            chart("Prefill replicas of llama-70b"),
            "{width}: {images:?}"
        );
        assert!(
            chart("Percent of requests of qwen-32b"),
            "{width}: {images:?}"
        );
        assert!(images.iter().all(|name| !name.is_empty()));
        for landmark in ["main", "banner", "contentinfo", "search"] {
            assert_eq!(of(landmark).len(), 1, "{width}: {landmark}");
        }
        assert_eq!(of("heading"), ["PDAutoscalers"], "{width}");
    }
}

#[tokio::test]
async fn a_renewed_page_keeps_focus_and_what_is_open() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let mut stage = Stage::with_an_hour();
    let url = stage.serve().await;
    browser.look("light", 1280, 900).await;
    browser.open(&url).await;
    browser.value("[...document.querySelectorAll('.objects a')].find((a) => a.textContent === 'qwen-32b').focus()").await;
    // Another object comes in front, and one goes.
    stage.put(&sample(1, "inference", "aya-35b"));
    stage.delete(&sample(3, "research", "mixtral-8x7b"));
    let renewed = "new Promise((done) => {
      const body = document.querySelector('.objects tbody');
      new MutationObserver((_, observer) => {
        const names = [...body.querySelectorAll('a')].map((a) => a.textContent);
        if (names.includes('aya-35b') && !names.includes('mixtral-8x7b')) { observer.disconnect(); done(names.join()); }
      }).observe(body, { childList: true, subtree: true });
      document.dispatchEvent(new Event('renew'));
    })";
    assert_eq!(
        browser.text(renewed).await,
        "aya-35b,deepseek-r1,llama-70b,qwen-32b,phi-4"
    );
    assert_eq!(browser.text(FOCUSED).await, "qwen-32b");

    browser
        .open(&format!("{url}/pdautoscalers/inference/qwen-32b"))
        .await;
    browser
        .value("document.querySelector('details').open = true")
        .await;
    stage.follow(Some("another"));
    let renewed = "new Promise((done) => {
      const main = document.getElementById('main');
      new MutationObserver((_, observer) => {
        if (main.textContent.includes('another decides')) { observer.disconnect(); done(document.querySelector('details').open); }
      }).observe(main, { childList: true, subtree: true, characterData: true });
      document.dispatchEvent(new Event('renew'));
    })";
    assert_eq!(browser.value(renewed).await, true);
    assert!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );

    // Updates are switched off by a link, and stay so on the next page.
    browser
        .value("document.getElementById('refresh').focus()")
        .await;
    browser.enter().await;
    assert_eq!(
        browser
            .text("document.getElementById('refresh').textContent")
            .await,
        "Resume updates"
    );
    assert_eq!(browser.value("document.scripts.length").await, 0);
    browser
        .value("document.querySelector('.path a').focus()")
        .await;
    browser.enter().await;
    assert_eq!(browser.text("location.search").await, "?refresh=off");
}

#[tokio::test]
async fn everything_is_there_without_a_script() {
    let Some(mut browser) = Browser::start().await else {
        return;
    };
    let stage = Stage::with_an_hour();
    let url = stage.serve().await;
    browser
        .call(
            "Emulation.setScriptExecutionDisabled",
            json!({ "value": true }),
        )
        .await;
    browser.open(&url).await;
    let shown = "document.querySelectorAll('.objects tbody tr svg path').length > 20 \
                 && document.querySelector('meta[http-equiv=refresh]').content";
    assert_eq!(browser.text(shown).await, "30");
    tab_to(&mut browser, "qwen-32b").await;
    browser.enter().await;
    assert_eq!(
        browser
            .value("document.querySelectorAll('figure svg').length")
            .await,
        3
    );
}
