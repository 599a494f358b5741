//! The terminal: taken over, drawn on, and given back however this ends: by a key, a signal, an error or a panic.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Source,
    model::{Model, Tab},
    view,
};

/// How long a key is waited for before a signal is looked for.
const GLANCE: Duration = Duration::from_millis(100);

/// How often it is looked whether there is a terminal still, and how long the end may take once it was asked for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gives the terminal back, whichever way it is left. A panic gives it back before it prints (ratatui's hook).
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Draws until a person or a signal ends it.
///
/// # Errors
/// The terminal's.
pub(super) fn run(source: &mut Source, mut model: Model, interval: Duration) -> io::Result<()> {
    let ended = told_to_end(source)?;
    let mut terminal = ratatui::try_init()?;
    let _taken = Taken;
    let mut due = Instant::now() + interval;
    while !ended.load(Relaxed) {
        terminal.draw(|frame| view::draw(frame, &model))?;
        if event::poll(GLANCE.min(due.saturating_duration_since(Instant::now())))?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && press(&mut model, key)
        {
            return Ok(());
        }
        if Instant::now() >= due {
            due = Instant::now() + interval;
            if !model.paused {
                match source.look() {
                    Ok(status) => model.take(&status, Instant::now()),
                    Err(fault) => model.fault = Some(fault),
                }
            }
        }
    }
    Ok(())
}

/// Becomes true with the first signal that asks this program to end.
fn told_to_end(source: &Source) -> io::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    let _within = source.runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()] {
        let (mut told, ended) = (signal(kind)?, Arc::clone(&ended));
        source.runtime.spawn(async move {
            if told.recv().await.is_some() {
                ended.store(true, Relaxed);
            }
        });
    }
    source.runtime.spawn(end_without_terminal(Arc::clone(&ended)));
    Ok(ended)
}

/// Ends the program where its own loop cannot: of a terminal that is gone crossterm reads the end over and over, and never
/// returns.
async fn end_without_terminal(ended: Arc<AtomicBool>) {
    loop {
        let was_told = ended.load(Relaxed);
        tokio::time::sleep(PATIENCE).await;
        if was_told || rustix::termios::tcgetattr(io::stdin()).is_err() {
            ratatui::restore();
            std::process::exit(1);
        }
    }
}

/// What a key does; true when it ends the program.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c'));
    }
    if model.typing {
        type_on(model, key.code);
        return false;
    }
    match key.code {
        KeyCode::Char('q') => return true,
        KeyCode::Char(digit @ '1'..='4') => choose(model, usize::from(digit as u8 - b'1')),
        KeyCode::Tab => {
            let at = Tab::ALL.iter().position(|tab| *tab == model.tab).unwrap_or_default();
            choose(model, (at + 1) % Tab::ALL.len());
        }
        KeyCode::Char('>' | '.') | KeyCode::Right => model.sort_by_next(true),
        KeyCode::Char('<' | ',') | KeyCode::Left => model.sort_by_next(false),
        KeyCode::Char('r') => model.turn(),
        KeyCode::Char('/') => model.typing = true,
        KeyCode::Char(' ' | 'p') => model.paused = !model.paused,
        KeyCode::Char('j') | KeyCode::Down => {
            model.first = (model.first + 1).min(model.table().rows.len().saturating_sub(1));
        }
        KeyCode::Char('k') | KeyCode::Up => model.first = model.first.saturating_sub(1),
        KeyCode::Esc => model.filter.clear(),
        _ => {}
    }
    false
}

fn choose(model: &mut Model, at: usize) {
    model.tab = Tab::ALL[at];
    model.first = 0;
}

fn type_on(model: &mut Model, code: KeyCode) {
    model.first = 0;
    match code {
        KeyCode::Char(letter) => model.filter.push(letter),
        KeyCode::Backspace => _ = model.filter.pop(),
        KeyCode::Enter => model.typing = false,
        KeyCode::Esc => {
            model.filter.clear();
            model.typing = false;
        }
        _ => {}
    }
}
