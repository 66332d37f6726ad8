"""A training loop of your own, without `fit`: forward, loss, backward, step.

python examples/training_by_hand.py
"""

import minidl as dl
from minidl.layers import Dense, Flatten

epochs, batch_size, seed = 5, 100, 0
learning_rate = dl.optim.StepDecay(0.1, every=3, gamma=0.1)  # 0.1, then 0.01 from the fourth epoch on

(x_train, y_train), (x_test, y_test) = dl.data.glyphs()  # (20000, 28, 28, 1) uint8, (20000,) int64
model = dl.Sequential(Flatten(), Dense(128, activation="relu"), Dense(10), input_shape=(28, 28, 1), seed=seed)
optimizer = dl.optim.SGD(model, learning_rate, momentum=0.9)

for epoch in range(epochs):
    optimizer.epoch = epoch  # where the learning-rate schedule stands
    total = 0.0
    for rows in dl.data.batches(len(x_train), batch_size, seed=seed, epoch=epoch):  # a new order each epoch
        logits = model(x_train[rows])  # (batch, 10); the model divides uint8 images by 255
        loss = dl.ops.cross_entropy(logits, y_train[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    accuracy = dl.evaluate(model, x_test, y_test)["accuracy"]
    print(
        f"epoch {epoch + 1}: lr {optimizer.lr:g}, loss {total / len(x_train):.4f}, test accuracy {accuracy:.2%}"
    )
