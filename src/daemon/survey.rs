//! Looks at all tokens, a slice at a time: between two slices the loop does what is due, so
//! that no check is late because somebody looks.
//!
//! Whoever wants to look at all of them goes along with others who do, and all of them together
//! never take more of the loop's time than their [leisure](super::leisure) is.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use super::Daemon;
use super::leisure::Leisure;
use super::picture::Picture;
use super::scrape::Scrape;
use super::search::Search;
use crate::clock::{self, Stopwatch};
use crate::time::Moment;

/// What a slice takes, and what a check may be late because of it; and the one thing more that
/// it ends with, such as a page of answers.
const SLICE: Duration = Duration::from_micros(300);

/// Tokens between two looks at the clock: a few microseconds, or some ten where names are read.
const STRIDE: u32 = 512;

/// The looks under way.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    /// Each has its turn.
    under_way: VecDeque<Survey>,
    leisure: Leisure,
}

/// One walk past the tokens, for all who go along.
#[derive(Debug)]
struct Survey {
    next: u32,
    /// Nobody can join who wants to see all.
    is_closed: bool,
    /// Everything has been seen.
    is_over: bool,
    looks: Vec<Look>,
}

/// What is looked for.
#[derive(Debug)]
pub(super) enum Look {
    Search(Search),
    Scrape(Scrape),
    Picture(Picture),
}

impl Look {
    fn is_wanted(&self) -> bool {
        match self {
            Self::Search(search) => search.is_wanted(),
            Self::Scrape(scrape) => scrape.is_wanted(),
            Self::Picture(picture) => picture.is_wanted(),
        }
    }
}

impl Surveys {
    /// Somebody wants to look.
    pub(super) fn add(&mut self, look: Look) {
        if let Look::Search(search) = &look
            && let Some(next) = search.goes_alone_from()
        {
            let survey = Survey { next, is_closed: true, is_over: false, looks: vec![look] };
            return self.under_way.push_back(survey);
        }
        match self.under_way.iter_mut().find(|survey| !survey.is_closed) {
            Some(survey) => survey.join(look),
            None => self.under_way.push_back(Survey {
                next: 0,
                is_closed: false,
                is_over: false,
                looks: vec![look],
            }),
        }
    }

    /// How long until there is to be another slice; `None` while nobody looks.
    fn pause(&self, now: Moment) -> Option<Duration> {
        (!self.under_way.is_empty()).then(|| self.leisure.pause(now))
    }

    /// Comes when another slice is wanted, once everything else that is under way has had its
    /// turn.
    pub(super) async fn turn(&self) {
        match self.pause(clock::now()) {
            None => pending().await,
            Some(Duration::ZERO) => yield_now().await,
            Some(pause) => sleep(pause).await,
        }
    }
}

impl Survey {
    /// Scrapes count the same, and count it once.
    fn join(&mut self, look: Look) {
        let scraping = self.looks.iter_mut().find_map(|look| match look {
            Look::Scrape(scrape) => Some(scrape),
            Look::Search(_) | Look::Picture(_) => None,
        });
        match (look, scraping) {
            (Look::Scrape(scrape), Some(scraping)) => scraping.join(scrape),
            (look, _) => self.looks.push(look),
        }
    }
}

impl Daemon {
    /// Goes on with a look, if there is one and it is time for it.
    pub(super) fn survey(&mut self) {
        let now = clock::now();
        if self.control.surveys.pause(now) != Some(Duration::ZERO) {
            return;
        }
        let Some(mut survey) = self.control.surveys.under_way.pop_front() else { return };
        let slice = Stopwatch::start();
        survey.is_closed = true;
        survey.looks.retain(Look::is_wanted);
        while slice.elapsed() < SLICE {
            if !survey.is_over {
                self.stride(&mut survey);
            } else if let Some(look) = survey.looks.pop() {
                survey.looks.extend(self.conclude_look(look, survey.next));
            } else {
                break;
            }
        }
        if !survey.looks.is_empty() {
            self.control.surveys.under_way.push_back(survey);
        }
        self.control.surveys.leisure.spend(now, slice.elapsed());
    }

    /// Shows some tokens to all who go along.
    fn stride(&self, survey: &mut Survey) {
        let all = self.keeper.numbers();
        let end = survey.next.saturating_add(STRIDE).min(all);
        let mut full = survey.looks.is_empty();
        while survey.next < end && !full {
            let key = survey.next;
            survey.next += 1;
            let Some((id, glance, server)) = self.keeper.glance(key) else { continue };
            for look in &mut survey.looks {
                match look {
                    Look::Search(search) => {
                        search.see(id, glance, &self.roster);
                        full = search.is_full();
                    }
                    Look::Scrape(scrape) => scrape.see(glance, server),
                    Look::Picture(picture) => picture.see(glance, key),
                }
            }
        }
        survey.is_over = full || survey.next >= all;
    }

    /// Answers, or does a part of that and gives back the rest.
    fn conclude_look(&self, look: Look, next: u32) -> Option<Look> {
        match look {
            Look::Search(search) => self.conclude_search(search, next),
            Look::Scrape(scrape) => self.conclude_scrape(scrape),
            Look::Picture(picture) => return self.conclude_picture(picture).map(Look::Picture),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::control::{Listing, Order};

    fn scrape() -> Look {
        Look::Scrape(Scrape::begin(true, oneshot::channel().0))
    }

    fn search(order: Order) -> Look {
        let listing = Listing { order, ..Listing::default() };
        Look::Search(Search::begin(&listing, oneshot::channel().0).unwrap())
    }

    /// How many looks there are in each of the walks under way.
    fn walks(surveys: &Surveys) -> Vec<usize> {
        surveys.under_way.iter().map(|survey| survey.looks.len()).collect()
    }

    #[test]
    fn who_wants_to_see_all_waits_for_the_walk_that_begins_next() {
        let mut surveys = Surveys::default();
        surveys.add(search(Order::Worst));
        surveys.under_way[0].is_closed = true;
        surveys.add(search(Order::Worst));
        surveys.add(scrape());
        surveys.add(search(Order::Worst));
        assert_eq!(walks(&surveys), [1, 3]);
    }

    #[test]
    fn what_scrapes_tell_is_counted_once_however_many_they_are() {
        let mut surveys = Surveys::default();
        (0..5).for_each(|_| surveys.add(scrape()));
        assert_eq!(walks(&surveys), [1]);
    }

    #[test]
    fn who_takes_a_page_as_they_come_goes_alone() {
        let mut surveys = Surveys::default();
        surveys.add(search(Order::Worst));
        surveys.add(search(Order::Any));
        surveys.add(search(Order::Any));
        assert_eq!(walks(&surveys), [1, 1, 1]);
    }

    #[test]
    fn nobody_is_waited_for_while_nobody_looks() {
        let mut surveys = Surveys::default();
        assert_eq!(surveys.pause(clock::now()), None);
        surveys.add(scrape());
        assert_eq!(surveys.pause(clock::now()), Some(Duration::ZERO));
    }
}
